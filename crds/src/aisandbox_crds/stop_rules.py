"""Whether ``stop_when`` of a spec can end its run: rules across fields, and what could never be reached.

Their CEL is in :mod:`aisandbox_crds.generate.cross_field_rules`, apart from what follows from hyperparameters. Must
not know when a run ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from aisandbox_crds.algorithms import ALGORITHMS
from aisandbox_crds.effective_values import effective_evaluation_interval, known_environments
from aisandbox_crds.errors import FieldError
from aisandbox_crds.hyperparameters import Hyperparameters, setting
from aisandbox_crds.spec import StopWhen, TrainingRunSpec

_FIELD = "stop_when"


def stop_errors(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    """What of ``spec.stop_when`` means nothing, or could never end the run; a value out of its range is another's."""
    stop = spec.stop_when
    if stop is None:
        return
    rewards = {"episode_reward_mean": stop.episode_reward_mean, "evaluation_reward_mean": stop.evaluation_reward_mean}
    stated = [name for name, reward in rewards.items() if reward is not None]
    for name in stated:
        if not math.isfinite(rewards[name] or 0.0):
            yield FieldError(f"{_FIELD}.{name}", f"must be finite, got {rewards[name]}")
    if not (stated or stop.evaluations_without_improvement or stop.training_seconds):
        rule = (
            "must have at least one of episode_reward_mean, evaluation_reward_mean, evaluations_without_improvement "
            "and training_seconds"
        )
        yield FieldError(_FIELD, rule)
    elif not stated and stop.times_in_a_row > 1:
        rule = "counts how often a mean return is reached: set episode_reward_mean or evaluation_reward_mean"
        yield FieldError(f"{_FIELD}.times_in_a_row", rule)
    yield from _training_errors(spec, stop, hyperparameters)
    yield from _evaluation_errors(spec, stop, hyperparameters)


def _training_errors(spec: TrainingRunSpec, stop: StopWhen, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    window = setting(spec.algorithm, hyperparameters, "stats_window_size")
    needed = window + stop.times_in_a_row - 1
    if stop.episode_reward_mean is not None and needed > spec.total_timesteps:
        rule = (
            f"is never reached: it needs {needed:,} episodes (stats_window_size={window}), and total_timesteps is "
            f"{spec.total_timesteps:,}"
        )
        yield FieldError(f"{_FIELD}.episode_reward_mean", rule)
    deadline = spec.active_deadline_seconds
    if deadline is not None and stop.training_seconds >= deadline:
        rule = f"is never reached: the run fails after its active_deadline_seconds, {deadline}; give it more"
        yield FieldError(f"{_FIELD}.training_seconds", rule)


def _evaluation_errors(spec: TrainingRunSpec, stop: StopWhen, hyperparameters: Hyperparameters) -> Iterator[FieldError]:
    needed = {
        "evaluation_reward_mean": stop.times_in_a_row if stop.evaluation_reward_mean is not None else 0,
        "evaluations_without_improvement": stop.evaluations_without_improvement
        and (stop.evaluations_without_improvement + 1),
    }
    interval = effective_evaluation_interval(spec)
    for name, count in needed.items():
        if not count:
            continue
        if interval is None:
            yield FieldError(f"{_FIELD}.{name}", "is never reached without evaluations: set evaluation")
            continue
        distance = max(interval, _rollout(spec, hyperparameters), 1)
        possible = max(spec.total_timesteps - 1, 0) // distance
        if count > possible:
            rule = (
                f"is never reached: it needs {count:,} evaluations before the end, and there are {possible:,}, one "
                f"every {distance:,} of total_timesteps {spec.total_timesteps:,}"
            )
            yield FieldError(f"{_FIELD}.{name}", rule)


def _rollout(spec: TrainingRunSpec, hyperparameters: Hyperparameters) -> int:
    """The timesteps of a rollout of an on-policy algorithm, after which it can be evaluated; 0 if not known."""
    if ALGORITHMS[spec.algorithm].off_policy:
        return 0
    steps: int = setting(spec.algorithm, hyperparameters, "n_steps")
    return steps * (known_environments(spec, hyperparameters) or 1)
