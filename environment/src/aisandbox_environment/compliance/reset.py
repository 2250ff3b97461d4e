"""Checks of `reset`: the number of seeds, and that seeds reproduce episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import Array

from aisandbox_environment.compliance.checks import CheckFailed, CheckSkipped, SimulatorUnderTest
from aisandbox_environment.compliance.streams import RawSession, reset_request

STEPS = 20
"""How many steps are played to compare two episodes."""

_ADVICE = "An environment that is reset with a seed takes all its randomness from a generator made from that seed."


def wrong_seeds_are_refused(simulator: SimulatorUnderTest) -> str:
    """One seed too many is refused in band with INVALID_ARGUMENT."""
    with RawSession(simulator, simulator.available(2)) as session:
        session.reset()
        advice = "There are no seeds, or one for each environment."
        request = reset_request([1] * (session.n + 1))
        return session.expect_error(request, pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, advice)


def seeds_reproduce(simulator: SimulatorUnderTest) -> str:
    """The same seeds and actions give the same replies, in one session and in another."""
    n = simulator.available(3)
    with RawSession(simulator, n) as session:
        actions, first = session.record(seeds_of(n), STEPS)
        again = session.replay(seeds_of(n), actions)
    check_same(first, again, "the same seeds and actions to give the same episode in one session", _ADVICE)
    with RawSession(simulator, n) as session:
        other = session.replay(seeds_of(n), actions)
    check_same(first, other, "the same seeds and actions to give the same episode in another session", _ADVICE)
    return f"{n} environments, {STEPS} steps, the same in three runs"


def environments_are_independent(simulator: SimulatorUnderTest) -> str:
    """The last environment of a batch behaves as it does alone with the same seed and actions."""
    if simulator.pool:
        raise CheckSkipped("every session with a simulator that is attached has all of its environments")
    n = simulator.available(3)
    if n < 2:
        raise CheckSkipped("the capacity is 1")
    with RawSession(simulator, n) as session:
        actions, _ = session.record(seeds_of(n), STEPS)
        together = _observations(session, seeds_of(n), actions)
    with RawSession(simulator, 1) as session:
        alone = _observations(session, seeds_of(n)[-1:], [action[-1:] for action in actions])
    for step, (batch, one) in enumerate(zip(together, alone, strict=True)):
        if any(not np.array_equal(a[-1], b[0]) for a, b in zip(batch, one, strict=True)):
            raise CheckFailed(
                f"environment {n - 1} of {n} to behave as it does alone with the same seed and actions",
                f"another observation after {step} steps",
                "Environments must not share a generator or state; seed i and action i belong to environment i.",
            )
    return f"environment {n - 1} of {n} behaves as it does alone"


def seeds_of(n: int) -> list[int]:
    """The seeds of ``n`` environments."""
    return [1000 + i for i in range(n)]


def check_same(expected: Sequence[object], replies: Sequence[object], rule: str, advice: str) -> None:
    """Raise CheckFailed unless the replies are equal, step by step."""
    for step, (one, other) in enumerate(zip(expected, replies, strict=True)):
        if one != other:
            raise CheckFailed(rule, f"a difference after {step} steps", advice)


def _observations(session: RawSession, seeds: Sequence[int], actions: Sequence[Array]) -> list[Sequence[Array]]:
    first = session.reader.reset(session.reset(seeds)).observations
    return [first, *(session.reader.step(session.step(action)).observations for action in actions)]


CHECKS = {
    "the wrong number of seeds is refused in band": wrong_seeds_are_refused,
    "seeds reproduce episodes": seeds_reproduce,
    "environments are independent of each other": environments_are_independent,
}
