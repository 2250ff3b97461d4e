"""A simulation's results as replies: one message serves all steps, and nothing of a step stays for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_environment.reply_reader import ReplyReader
from aisandbox_environment.reply_writer import ReplyWriter
from aisandbox_environment.simulation import EpisodeMetrics, ResetResult, StepResult
from aisandbox_environment.spec import Spec, make_spec
from aisandbox_wire import InvalidValue, box, dict_space, discrete

PLACE, GEAR = box([2]), discrete(3)
SPEC = make_spec(dict_space({"place": PLACE, "gear": GEAR}), GEAR, action_masks=True)
NO_ENDS = np.zeros(2, np.bool_)


@dataclass
class Session:
    """Both ends of the replies of two environments."""

    spec: Spec = SPEC

    def __post_init__(self) -> None:
        self.writer, self.reader = ReplyWriter(self.spec, 2), ReplyReader(self.spec, 2)

    def step(self, result: StepResult) -> StepResult:
        return self.reader.step(pb.SimulatorReply.FromString(self.writer.step(result)).step)


def observations(number: float) -> list[Any]:
    return [np.full((2, 2), number, np.float32), np.full(2, int(number) % 3, np.int64)]


def result(number: float, **others: Any) -> StepResult:
    values: dict[str, Any] = {
        "rewards": np.full(2, number, np.float32),
        "terminated": NO_ENDS,
        "truncated": NO_ENDS,
        "action_masks": np.full((2, 3), True),
    }
    return StepResult(observations=observations(number), **{**values, **others})


def test_steps_that_follow_each_other_are_read_as_they_were_written() -> None:
    session = Session()
    for number in (1.0, 2.0, 0.5):
        read = session.step(result(number))
        np.testing.assert_array_equal(read.rewards, [number, number])
        np.testing.assert_array_equal(read.observations[0], observations(number)[0])
        np.testing.assert_array_equal(read.observations[1], observations(number)[1])


def test_end_of_an_episode_is_not_repeated_by_the_next_step() -> None:
    session = Session()
    ends = {
        "terminated": np.array([False, True]),
        "ended": np.array([1]),
        "final_observations": [array[:1] for array in observations(2.0)],
        "episode_metrics": [EpisodeMetrics(1, {"laps": 3.0})],
    }
    read = session.step(result(1.0, **ends))
    assert read.ended.tolist() == [1]
    assert read.final_observations[1].tolist() == [2]
    assert read.episode_metrics == (EpisodeMetrics(1, {"laps": 3.0}),)
    read = session.step(result(1.0))
    assert (read.ended.size, len(read.final_observations), len(read.episode_metrics)) == (0, 0, 0)


def test_end_that_does_not_fit_is_not_repeated_by_the_next_step() -> None:
    session = Session()
    ends = {"terminated": np.array([True, False]), "ended": np.array([0])}
    with pytest.raises(InvalidValue, match="final_observations"):
        session.step(result(1.0, **ends, final_observations=[np.zeros((1, 2)), np.array([0.5])]))
    assert session.step(result(1.0)).ended.size == 0


def test_masks_that_a_spec_does_not_declare_are_refused_by_the_client() -> None:
    session = Session(make_spec(PLACE, GEAR))
    plain = StepResult([np.zeros((2, 2), np.float32)], np.zeros(2, np.float32), NO_ENDS, NO_ENDS)
    assert session.step(plain).action_masks is None
    with pytest.raises(InvalidValue, match="action_masks: has 6 bytes"):
        session.step(plain._replace(action_masks=np.full((2, 3), True)))


def test_value_that_its_dtype_cannot_hold_is_refused_with_its_field() -> None:
    writer = ReplyWriter(SPEC, 2)
    with pytest.raises(InvalidValue, match=r"observations\[1\]: element \[0\] is 0.5, which is no int64"):
        writer.step(result(1.0)._replace(observations=[observations(1.0)[0], np.full(2, 0.5)]))
    with pytest.raises(InvalidValue, match=r"observations\[1\]"):
        writer.reset(ResetResult([observations(1.0)[0], np.full(2, 0.5)]))


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_of_leaves_is_refused(number: int) -> None:
    arrays = (observations(1.0) * 2)[:number]
    with pytest.raises(ValueError, match="zip"):
        ReplyWriter(SPEC, 2).step(result(1.0)._replace(observations=arrays))
