"""When checkpoints and evaluations are due."""

import pytest
from aisandbox_trainer.training import schedule
from aisandbox_trainer.training.schedule import CheckpointSchedule, is_due


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("timesteps", "last", "interval", "due"),
    [
        (0, 0, 10, False),
        (9, 0, 10, False),
        (10, 0, 10, True),
        (10, 10, 10, False),
        (19, 10, 10, False),
        (20, 19, 10, True),
        (24, 16, 10, True),
        (35, 9, 10, True),
        (29, 25, 10, False),
    ],
)
def test_is_due_when_a_multiple_of_the_interval_was_reached(
    timesteps: int, last: int, interval: int, due: bool
) -> None:
    assert is_due(timesteps, last, interval) is due


def test_schedule_is_due_once_an_interval() -> None:
    plan = CheckpointSchedule(128)
    assert [plan.becomes_due(timesteps) for timesteps in (64, 128, 192, 256, 256)] == [False, True, False, True, False]
    assert plan.saved_at == 256


def test_schedule_continues_from_what_was_saved() -> None:
    assert not CheckpointSchedule(128, saved_at=130).becomes_due(200)
    assert CheckpointSchedule(128, saved_at=120).becomes_due(130)


def test_schedule_postpones_a_large_checkpoint_that_took_long_until_its_share_of_time_is_kept() -> None:
    clock = Clock()
    plan = CheckpointSchedule(10, clock=clock)
    assert plan.allows_checkpoint(True)
    plan.saved(2.0, schedule.LARGE_BYTES)  # may take a twentieth: the next one 40 s after the start of this one
    clock.now += 37.9
    assert not plan.allows_checkpoint(True)
    assert not plan.allows_checkpoint(False)
    clock.now += 0.2
    assert plan.allows_checkpoint(False), "postponed, now saved although no new one is due"
    assert not plan.allows_checkpoint(False)


def test_schedule_never_postpones_a_small_checkpoint() -> None:
    plan = CheckpointSchedule(10, clock=Clock())
    plan.saved(1000.0, schedule.LARGE_BYTES - 1)
    assert plan.allows_checkpoint(True)
