"""Checks of whole sessions: how many there may be, that they do not influence each other, and how they end."""

from __future__ import annotations

import time

import grpc
import numpy as np

from aisandbox_environment.compliance.checks import CheckFailed, CheckSkipped, SimulatorUnderTest, becomes_true
from aisandbox_environment.compliance.streams import RawSession, RawStream

_STEPS = 10
_LARGE_BATCH = 256
_SHORT_IDLE_SECONDS = 1.0
_LONG_IDLE_SECONDS = 35.0


def sessions_are_isolated(simulator: SimulatorUnderTest) -> str:
    """A session gives the same replies whether another session is open or not."""
    n = simulator.available(2, sessions=2)
    if n < 1:
        raise CheckSkipped("the capacity has no room for two sessions")
    random = np.random.default_rng(9)
    with RawSession(simulator, n) as session:
        steps, alone = session.record(range(n), _STEPS)
    with RawSession(simulator, n) as one, RawSession(simulator, n) as other:
        replies: list[object] = [one.reset(range(n))]
        other.reset(range(50, 50 + n))
        for actions in steps:
            replies.append(one.step(actions))
            other.step(other.sample(random))
    for step, (expected, came) in enumerate(zip(alone, replies, strict=True)):
        if expected != came:
            raise CheckFailed(
                "a session to behave as it does alone while another one is open",
                f"a difference after {step} steps",
                "Sessions must not share state: each stream has its own environments.",
            )
    return f"two sessions of {n} environments"


def capacity_is_kept(simulator: SimulatorUnderTest) -> str:
    """More environments than the capacity end the stream with RESOURCE_EXHAUSTED."""
    if simulator.pool:
        raise CheckSkipped("a simulator that is attached has one session at a time")
    if not simulator.capacity:
        raise CheckSkipped("no limit is declared")
    advice = "The trainer tries again later, but only after this status."
    with RawStream(simulator) as stream:
        request = simulator.open_request(simulator.capacity + 1)
        return stream.expect_end(request, grpc.StatusCode.RESOURCE_EXHAUSTED, advice)


def half_close_ends_the_session(simulator: SimulatorUnderTest) -> str:
    """The client's half-close ends the stream with OK."""
    with RawSession(simulator, 1) as session:
        session.reset()
        code = session.finish()
    if code is not grpc.StatusCode.OK:
        raise CheckFailed(
            "status OK after the client's half-close", code.name, "Return from the call without an error."
        )
    return "the stream ended with OK"


def cancelled_stream_frees_its_environments(simulator: SimulatorUnderTest) -> str:
    """`in_use` counts the environments of an open session, and no longer after its stream was cancelled."""
    n = simulator.available(2)
    before = simulator.describe().in_use
    with RawSession(simulator, n) as session:
        session.reset()
        during = simulator.describe().in_use
        if during < before + n:
            raise CheckFailed(
                f"Describe to report in_use {before + n} with a session of {n} environments", str(during), "Count them."
            )
        session.cancel()
        if not becomes_true(lambda: simulator.describe().in_use <= during - n, simulator.timeout):
            raise CheckFailed(
                f"in_use to fall to {during - n} when the stream was cut",
                f"{simulator.describe().in_use} after {simulator.timeout:g} s",
                "When a stream ends, in whatever way, free its environments; watch the call's cancellation.",
            )
    return f"in_use went from {before} to {during}, and back"


def idle_session_stays_open(simulator: SimulatorUnderTest) -> str:
    """A session answers after a time without requests, as while a learner updates its policy."""
    seconds = _LONG_IDLE_SECONDS if simulator.long_idle else _SHORT_IDLE_SECONDS
    with RawSession(simulator, 1) as session:
        session.reset()
        time.sleep(seconds)
        try:
            session.step(session.sample(np.random.default_rng(0)))
        except CheckFailed as failure:
            raise CheckFailed(
                f"a session to stay open for {seconds:g} s without a request",
                str(failure),
                "Have no idle timeout: a learner's update may take minutes.",
            ) from None
    more = "" if simulator.long_idle else f" (--long-idle waits {_LONG_IDLE_SECONDS:g} s, as a long update does)"
    return f"answered after {seconds:g} s{more}"


def large_batch_works(simulator: SimulatorUnderTest) -> str:
    """A session with many environments takes a step."""
    if simulator.pool:
        raise CheckSkipped(f"a simulator that is attached has its own number of environments, {simulator.attached}")
    n = simulator.available(_LARGE_BATCH)
    with RawSession(simulator, n) as session:
        session.reader.reset(session.reset())
        started = time.perf_counter()
        session.reader.step(session.step(session.sample(np.random.default_rng(0))))
        return f"{n} environments took a step in {(time.perf_counter() - started) * 1000:.1f} ms"


CHECKS = {
    "sessions do not influence each other": sessions_are_isolated,
    "the capacity is kept": capacity_is_kept,
    "a half-close ends the session with OK": half_close_ends_the_session,
    "a cut stream frees its environments": cancelled_stream_frees_its_environments,
    "a session stays open without requests": idle_session_stays_open,
    "a large batch works": large_batch_works,
}
