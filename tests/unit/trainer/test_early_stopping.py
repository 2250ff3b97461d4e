"""Which rule of ``stop_when`` is met when, and what a checkpoint has of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aisandbox_crds.spec import StopWhen
from aisandbox_trainer.checkpoints.compatibility import with_new_fields
from aisandbox_trainer.checkpoints.files import EarlyStopping, TrainingState
from aisandbox_trainer.training.early_stopping import StopRules


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _met(when: StopWhen, training: Sequence[float | None] = (), evaluations: Sequence[float] = ()) -> tuple[int, str]:
    """After how many results a rule is met, and its reason; the counts go through a checkpoint after each result."""
    counted = EarlyStopping()
    results: list[Any] = [("after_rollout", each) for each in training]
    results += [("after_evaluation", each) for each in evaluations]
    for number, (method, result) in enumerate(results, 1):
        rules = StopRules(when, counted)
        getattr(rules, method)(result)
        if rules.stop is not None:
            return number, rules.stop.reason
        counted = rules.capture()
    return 0, ""


@pytest.mark.parametrize(
    ("when", "results", "met"),
    [
        (StopWhen(episode_reward_mean=5), {"training": [4, 5]}, (2, "RewardReached")),
        (StopWhen(episode_reward_mean=5), {"training": [4, 4.9, None]}, (0, "")),
        (StopWhen(episode_reward_mean=5, times_in_a_row=2), {"training": [6, 4, 5, None, 5]}, (5, "RewardReached")),
        (StopWhen(evaluation_reward_mean=-1), {"evaluations": [-2, -1]}, (2, "RewardReached")),
        (StopWhen(evaluation_reward_mean=-1), {"training": [3]}, (0, "")),
        (StopWhen(evaluation_reward_mean=5, times_in_a_row=2), {"evaluations": [5, 1, 6, 7]}, (4, "RewardReached")),
        (StopWhen(evaluations_without_improvement=2), {"evaluations": [3, 2, 4, 4, 1]}, (5, "NoImprovement")),
        (StopWhen(evaluations_without_improvement=2), {"evaluations": [1, 2, 1, 3, 1]}, (0, "")),
        (
            StopWhen(evaluation_reward_mean=3, times_in_a_row=3, evaluations_without_improvement=2),
            {"evaluations": [3, 3, 3]},
            (3, "RewardReached"),
        ),
    ],
)
def test_rule_is_met_by_the_results_in_a_row(when: StopWhen, results: Any, met: tuple[int, str]) -> None:
    assert _met(when, **results) == met


def test_seconds_are_those_of_all_attempts() -> None:
    clock, when = Clock(), StopWhen(training_seconds=10)
    first = StopRules(when, clock=clock)
    clock.now += 50  # before training
    first.training_starts()
    clock.now += 6
    first.after_rollout(None)
    second = StopRules(when, first.capture(), clock)
    second.training_starts()
    met = []
    for _ in range(2):
        clock.now += 2
        second.after_rollout(None)
        met.append(second.stop and (second.stop.reason, second.stop.message))
    assert met == [None, ("TimeReached", "the run has trained for 10 seconds")]


def test_message_says_what_was_reached() -> None:
    rules = StopRules(StopWhen(evaluation_reward_mean=475, times_in_a_row=2))
    rules.after_evaluation(480.25)
    rules.after_evaluation(500)
    assert rules.stop is not None
    assert rules.stop.message == "the mean return of evaluations was at least 475 2 times in a row, at last 500"


def test_state_of_an_earlier_version_has_counted_nothing() -> None:
    state = TrainingState.__new__(TrainingState)
    object.__setattr__(state, "random", None)
    assert with_new_fields(state).early_stopping == EarlyStopping()
