"""Checks of the replies to many steps: one long play with random actions is recorded, and several checks look at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import Array, WireError

from aisandbox_environment.compliance.checks import CheckFailed, CheckSkipped, SimulatorUnderTest
from aisandbox_environment.compliance.streams import RawSession
from aisandbox_environment.simulation import StepResult
from aisandbox_environment.spec import Spec

_MAX_STEPS = 3000
_MAX_SECONDS = 10.0
_ENOUGH_EPISODES = 20
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Violation:
    """A reply that breaks the contract: after which step, in which field, and which rule."""

    step: int
    field: str
    rule: str


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode that has ended."""

    steps: int
    terminated: bool
    truncated: bool


@dataclass(slots=True)
class Recording:
    """What was seen in ``steps`` steps of ``environments`` environments.

    ``out_of_bounds``: after which step, and which element of an observation was outside its box. ``unchanged``: how
    many episodes ended with the observation that the next one began with.
    """

    spec: Spec
    environments: int
    steps: int = 0
    violations: list[Violation] = field(default_factory=list)
    out_of_bounds: list[tuple[int, str]] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    unchanged: int = 0


def play(simulator: SimulatorUnderTest) -> Recording:
    """Play with random actions until enough episodes have ended, or long enough."""
    n = simulator.available(4)
    random = np.random.default_rng(5)
    with RawSession(simulator, n) as session:
        recording = Recording(session.spec, n)
        try:
            first = session.reader.reset(session.reset([5 + i for i in range(n)]))
            _find_out_of_bounds(recording, first.observations, "the first observations")
        except WireError as error:
            recording.violations.append(Violation(0, error.field, error.rule))
        ages = np.zeros(n, np.int64)
        deadline = time.monotonic() + _MAX_SECONDS
        max_steps = max(_MAX_STEPS, 2 * session.spec.max_episode_steps)
        while (
            recording.steps < max_steps and len(recording.episodes) < _ENOUGH_EPISODES and time.monotonic() < deadline
        ):
            reply = session.step(session.sample(random))
            recording.steps += 1
            ages += 1
            _count_episodes(recording, reply, ages)
            try:
                result = session.reader.step(reply)
            except WireError as error:
                recording.violations.append(Violation(recording.steps, error.field, error.rule))
            else:
                _record_result(recording, result)
    return recording


def _count_episodes(recording: Recording, reply: pb.StepReply, ages: Array) -> None:
    """Count from the flags alone: that works also where the rest of a reply breaks the contract."""
    n = recording.environments
    if len(reply.terminated) != n or len(reply.truncated) != n:
        return
    for i in range(n):
        if reply.terminated[i] or reply.truncated[i]:
            recording.episodes.append(Episode(int(ages[i]), bool(reply.terminated[i]), bool(reply.truncated[i])))
            ages[i] = 0


def _record_result(recording: Recording, result: StepResult) -> None:
    _find_out_of_bounds(recording, result.observations, "observations")
    if not len(result.ended):
        return
    _find_out_of_bounds(recording, result.final_observations, "final_observations")
    pairs = list(zip(result.observations, result.final_observations, strict=True))
    for k, i in enumerate(result.ended):
        if all(np.array_equal(now[i], final[k]) for now, final in pairs):
            recording.unchanged += 1


def _find_out_of_bounds(recording: Recording, observations: Sequence[Array], name: str) -> None:
    for leaf, array in zip(recording.spec.observation_leaves, observations, strict=True):
        if leaf.low is None or leaf.high is None:
            continue
        if leaf.dtype.kind == "f":
            slack = _TOLERANCE * np.maximum(1, np.abs(array))
            outside = (array < leaf.low - slack) | (array > leaf.high + slack)
        else:
            outside = (array < leaf.low) | (array > leaf.high)
        if outside.any():
            index = tuple(int(x) for x in np.argwhere(outside)[0])
            where = f"{name}{f' ({leaf.key})' if leaf.key else ''}, element {list(index)}"
            recording.out_of_bounds.append((recording.steps, f"{where} is {array[index]}"))


def _keeps_rules_of(fields: tuple[str, ...], expected: str, advice: str) -> Callable[[Recording], str]:
    """A check that no reply broke a rule of one of these fields."""

    def check(recording: Recording) -> str:
        found = [violation for violation in recording.violations if violation.field.startswith(fields)]
        if found:
            first = found[0]
            received = f"after {first.step} steps (and in {len(found) - 1} other replies) {first.field}: {first.rule}"
            raise CheckFailed(expected, received, advice)
        return f"valid in {recording.steps} steps of {recording.environments} environments"

    return check


def observations_are_within_bounds(recording: Recording) -> str:
    """Every element of an observation is within the bounds of its box."""
    if recording.out_of_bounds:
        step, what = recording.out_of_bounds[0]
        raise CheckFailed(
            "observations within the bounds of their box",
            f"after {step} steps (and {len(recording.out_of_bounds) - 1} times more) {what}",
            "Widen the bounds you declare (-Infinity and Infinity for none), or clip.",
        )
    return f"valid in all of {recording.steps} steps"


def episodes_restart(recording: Recording) -> str:
    """The reply to the step that ends an episode has the first observation of the next one (same-step autoreset)."""
    ended = len(recording.episodes)
    if not ended:
        return f"not seen: no episode ended in {recording.steps} random steps of {recording.environments} environments"
    if recording.unchanged == ended and ended > 1 and not recording.violations:
        raise CheckFailed(
            "the first observation of the next episode in `observations`, the last of the old in `final_observations`",
            f"twice the same in each of {ended} episodes that ended",
            "When an episode ends, keep its last observation, reset the environment, and send both.",
        )
    return f"{ended} episodes ended, each followed by a new one in the same step"


def time_limits_truncate(recording: Recording) -> str:
    """An episode that reaches max_episode_steps is truncated, not terminated."""
    limit = recording.spec.max_episode_steps
    if not limit:
        raise CheckSkipped("max_episode_steps is 0, no limit is declared")
    longest = max((episode.steps for episode in recording.episodes), default=0)
    if longest > limit or (recording.steps > limit and not recording.episodes):
        raise CheckFailed(
            f"episodes of at most max_episode_steps = {limit} steps",
            f"one of {max(longest, recording.steps)}",
            "Truncate an episode that reaches the limit you declare.",
        )
    at_limit = [episode for episode in recording.episodes if episode.steps == limit]
    if len(at_limit) > 1 and all(episode.terminated and not episode.truncated for episode in at_limit):
        raise CheckFailed(
            "`truncated` for an episode that the time limit cuts",
            f"`terminated` in each of the {len(at_limit)} episodes that lasted {limit} steps",
            "A cut episode has not reached a terminal state: its last state has a value, and learning goes wrong "
            "without it.",
        )
    return f"{len(at_limit)} of {len(recording.episodes)} episodes reached the limit of {limit} steps"


CHECKS: dict[str, Callable[[Recording], str]] = {
    "observations have their shape and dtype, and are finite": _keeps_rules_of(
        ("observations",), "observations of the declared space", "A batch has a leading dimension N; see Space."
    ),
    "observations are within their bounds": observations_are_within_bounds,
    "rewards are N finite numbers": _keeps_rules_of(
        ("step.rewards",), "N finite float32 rewards, little-endian", "One reward per environment, 4 bytes each."
    ),
    "terminated and truncated have N bytes, 0 or 1": _keeps_rules_of(
        ("step.terminated", "step.truncated"), "N bytes, 0 or 1", "One byte per environment in each of the two fields."
    ),
    "final observations are those of the environments that ended": _keeps_rules_of(
        ("step.final_observations",),
        "in final_observations the K episodes that ended in the step, and only those",
        "K is the number of environments with terminated or truncated set; they come in the order of their numbers.",
    ),
    "episodes restart in the step that ends them": episodes_restart,
    "time limits truncate and do not terminate": time_limits_truncate,
    "action masks are N rows that each allow an action, if declared": _keeps_rules_of(
        ("action_masks",), "masks as EnvironmentSpec.action_masks declares", "See StepReply.action_masks."
    ),
    "episode metrics are of episodes that ended": _keeps_rules_of(
        ("step.episode_metrics",), "finite numbers about episodes that ended in the step", "See EpisodeMetrics."
    ),
}
