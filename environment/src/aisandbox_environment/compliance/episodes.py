"""Checks of what replies hold: one long play with random actions, looked at from several sides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire.errors import WireError
from aisandbox_wire.tensors import Array

from aisandbox_environment.compliance.examination import Examination, Failed
from aisandbox_environment.results import StepResult
from aisandbox_environment.spec import Spec

_MOST_STEPS = 3000
_MOST_SECONDS = 10.0
_ENOUGH_EPISODES = 20
_TOLERANCE = 1e-5


@dataclass(slots=True)
class Play:
    """What was seen. ``broken``: step number, field and rule of what breaks the contract.

    ``lengths``: steps, terminated and truncated of each episode that has ended. ``restarts``: how many of these began
    the next one with the observation they ended with.
    """

    spec: Spec
    environments: int
    steps: int = 0
    broken: list[tuple[int, str, str]] = field(default_factory=list)
    outside: list[tuple[int, str]] = field(default_factory=list)
    lengths: list[tuple[int, bool, bool]] = field(default_factory=list)
    restarts: int = 0
    moved: bool = False


def play(examination: Examination) -> Play:
    """Play with random actions until enough episodes have ended, or a bound is reached."""
    n = examination.room(4)
    random = np.random.default_rng(5)
    with examination.session(n) as session:
        seen = Play(session.spec, n)
        try:
            first = session.reader.reset(session.reset([5 + i for i in range(n)]))
            _look(seen, first.observations, "the first observations")
        except WireError as error:
            seen.broken.append((0, error.field, error.rule))
        ages = np.zeros(n, np.int64)
        until = time.monotonic() + _MOST_SECONDS
        wanted = max(_MOST_STEPS, 2 * session.spec.max_episode_steps)
        while seen.steps < wanted and len(seen.lengths) < _ENOUGH_EPISODES and time.monotonic() < until:
            reply = session.step(session.sample(random))
            seen.steps += 1
            ages += 1
            _flags_of(reply, n, ages, seen)
            try:
                result = session.reader.step(reply)
            except WireError as error:
                seen.broken.append((seen.steps, error.field, error.rule))
                continue
            _compare(seen, result)
    return seen


def _flags_of(reply: pb.StepReply, n: int, ages: Array, seen: Play) -> None:
    """Count episodes from the bare flags: that works also where the rest of a reply is broken."""
    if len(reply.terminated) != n or len(reply.truncated) != n:
        return
    for i in range(n):
        if reply.terminated[i] or reply.truncated[i]:
            seen.lengths.append((int(ages[i]), bool(reply.terminated[i]), bool(reply.truncated[i])))
            ages[i] = 0


def _compare(seen: Play, result: StepResult) -> None:
    _look(seen, result.observations, "observations")
    if not len(result.ended):
        return
    _look(seen, result.final_observations, "final_observations")
    pairs = list(zip(result.observations, result.final_observations, strict=True))
    for k, i in enumerate(result.ended):
        if all(np.array_equal(now[i], final[k]) for now, final in pairs):
            seen.restarts += 1


def _look(seen: Play, observations: object, name: str) -> None:
    for leaf, array in zip(seen.spec.observation_leaves, observations, strict=True):  # type: ignore[call-overload]
        if leaf.low is None or leaf.high is None:
            continue
        slack = _TOLERANCE * np.maximum(1, np.abs(array)) if leaf.dtype.kind == "f" else 0
        wrong = (
            (array < leaf.low - slack) | (array > leaf.high + slack)
            if leaf.dtype.kind == "f"
            else ((array < leaf.low) | (array > leaf.high))
        )
        if wrong.any():
            place = tuple(int(x) for x in np.argwhere(wrong)[0])
            where = f"{name}{f' ({leaf.key})' if leaf.key else ''}, element {list(place)}"
            seen.outside.append((seen.steps, f"{where} is {array[place]}"))


def _holds(prefixes: tuple[str, ...], what: str, advice: str) -> Callable[[Play], str]:
    """A check that no reply broke a rule of one of these fields."""

    def check(seen: Play) -> str:
        wrong = [broken for broken in seen.broken if broken[1].startswith(prefixes)]
        if wrong:
            step, name, rule = wrong[0]
            raise Failed(what, f"after {step} steps (and in {len(wrong) - 1} other replies) {name}: {rule}", advice)
        return f"so they are in {seen.steps} steps of {seen.environments} environments"

    return check


def within_bounds(seen: Play) -> str:
    """The bounds of the observation space."""
    if seen.outside:
        step, what = seen.outside[0]
        raise Failed(
            "observations within the bounds of their box",
            f"after {step} steps (and {len(seen.outside) - 1} times more) {what}",
            "Widen the bounds you declare (-Infinity and Infinity are none), or clip.",
        )
    return f"all of {seen.steps} steps are"


def episodes_restart(seen: Play) -> str:
    """Same-step autoreset."""
    if not seen.lengths:
        return f"not seen: no episode ended in {seen.steps} random steps of {seen.environments} environments"
    ended = len(seen.lengths)
    if seen.restarts == ended and ended > 1 and not seen.broken:
        raise Failed(
            "the first observation of the next episode in `observations`, the last of the old in `final_observations`",
            f"twice the same in each of {ended} episodes that ended",
            "When an episode ends, keep its last observation, reset the environment, and send both.",
        )
    return f"{ended} episodes ended, and the next ones began in the same step"


def time_limits_truncate(seen: Play) -> str:
    """Truncated, not terminated."""
    limit = seen.spec.max_episode_steps
    if not limit:
        return "not looked at: max_episode_steps is 0, no limit is declared"
    longest = max((length for length, _, _ in seen.lengths), default=0)
    if longest > limit or (seen.steps > limit and not seen.lengths):
        raise Failed(
            f"episodes of at most max_episode_steps = {limit} steps",
            f"one of {max(longest, seen.steps)}",
            "Truncate an episode that reaches the limit you declare.",
        )
    at_limit = [(terminated, truncated) for length, terminated, truncated in seen.lengths if length == limit]
    if len(at_limit) > 1 and all(terminated and not truncated for terminated, truncated in at_limit):
        raise Failed(
            "`truncated` for an episode that the time limit cuts",
            f"`terminated` in each of the {len(at_limit)} episodes that lasted {limit} steps",
            "A cut episode has not reached a terminal state: its last state has a value, and learning goes wrong "
            "without it.",
        )
    return f"{len(at_limit)} of {len(seen.lengths)} episodes reached the limit of {limit} steps"


CHECKS: dict[str, Callable[[Play], str]] = {
    "observations have their shape and dtype, and are finite": _holds(
        ("observations",), "observations of the declared space", "A batch has a leading dimension N; see Space."
    ),
    "observations are within their bounds": within_bounds,
    "rewards are N finite numbers": _holds(
        ("step.rewards",), "N finite float32 rewards, little-endian", "One reward an environment, 4 bytes each."
    ),
    "ends are N flags": _holds(
        ("step.terminated", "step.truncated"), "N bytes, 0 or 1", "One byte an environment in each of the two."
    ),
    "final observations are those of the environments that ended": _holds(
        ("step.final_observations",),
        "in final_observations the K episodes that ended in the step, and only those",
        "K is the number of environments with terminated or truncated set; they come in the order of their numbers.",
    ),
    "episodes restart in the step that ends them": episodes_restart,
    "time limits truncate and do not terminate": time_limits_truncate,
    "action masks are N rows, if declared": _holds(
        ("action_masks",), "masks as EnvironmentSpec.action_masks declares", "See StepReply.action_masks."
    ),
    "episode metrics are of episodes that ended": _holds(
        ("step.episode_metrics",), "finite numbers about episodes that ended in the step", "See EpisodeMetrics."
    ),
}
