"""Checks of sessions' lives: how many there may be, that they are apart, and that they end."""

from __future__ import annotations

import time

import grpc
import numpy as np

from aisandbox_environment.compliance.examination import Examination, Failed, eventually

_STEPS = 10
_LARGE = 256
_SHORT_IDLE_SECONDS = 1.0
_LONG_IDLE_SECONDS = 35.0
_FREE = "When a stream ends, in whatever way, free its environments; watch the call's cancellation."


def sessions_are_apart(examination: Examination) -> str:
    """Two at once, against each alone."""
    n = examination.room(2, sessions=2)
    if n < 1:
        return "not looked at: the capacity has no room for two sessions"
    random = np.random.default_rng(9)
    with examination.session(n) as session:
        steps, alone = session.record(range(n), _STEPS)
    with examination.session(n) as one, examination.session(n) as other:
        seen: list[object] = [one.reset(range(n))]
        other.reset(range(50, 50 + n))
        for actions in steps:
            seen.append(one.step(actions))
            other.step(other.sample(random))
    for step, (expected, came) in enumerate(zip(alone, seen, strict=True)):
        if expected != came:
            raise Failed(
                "a session to go as it does alone while another one is open",
                f"a difference after {step} steps",
                "Sessions share nothing: each stream has its own environments.",
            )
    return f"two sessions of {n} environments"


def capacity_is_kept(examination: Examination) -> str:
    """One more than there is room for."""
    if not examination.capacity:
        return "not looked at: no limit is declared"
    advice = "The trainer tries again later, but only after this status."
    with examination.stream() as stream:
        request = examination.opening(examination.capacity + 1)
        return stream.expect_end(request, grpc.StatusCode.RESOURCE_EXHAUSTED, advice)


def half_close_ends_well(examination: Examination) -> str:
    """The client has no more requests."""
    with examination.session(1) as session:
        session.reset()
        code = session.finish()
    if code is not grpc.StatusCode.OK:
        raise Failed("status OK after the client's half-close", code.name, "Return from the call: all is well.")
    return "the stream ended with OK"


def cut_stream_frees(examination: Examination) -> str:
    """The client is gone."""
    n = examination.room(2)
    before = examination.describe().in_use
    with examination.session(n) as session:
        session.reset()
        during = examination.describe().in_use
        if during < before + n:
            raise Failed(
                f"Describe to tell in_use {before + n} with a session of {n} environments", str(during), "Count them."
            )
        session.cut()
        if not eventually(lambda: examination.describe().in_use <= during - n, examination.timeout):
            raise Failed(
                f"in_use to fall to {during - n} when the stream was cut",
                f"{examination.describe().in_use} after {examination.timeout:g} s",
                _FREE,
            )
    return f"in_use went from {before} to {during}, and back"


def silence_is_no_error(examination: Examination) -> str:
    """A learner that updates its policy."""
    seconds = _LONG_IDLE_SECONDS if examination.long_idle else _SHORT_IDLE_SECONDS
    with examination.session(1) as session:
        session.reset()
        time.sleep(seconds)
        try:
            session.step(session.sample(np.random.default_rng(0)))
        except Failed as failure:
            raise Failed(
                f"a session to live through {seconds:g} s of silence",
                str(failure),
                "Have no idle timeout, and permit keepalive pings every 5 s without data (in .NET: "
                "Http2.KeepAlivePingDelay is the server's own; do not limit the client's).",
            ) from None
    more = "" if examination.long_idle else " (not long enough for pings to come; the long check waits 35 s)"
    return f"answered after {seconds:g} s{more}"


def large_batch(examination: Examination) -> str:
    """Many environments in one message."""
    n = examination.room(_LARGE)
    with examination.session(n) as session:
        session.reader.reset(session.reset())
        begun = time.perf_counter()
        session.reader.step(session.step(session.sample(np.random.default_rng(0))))
        return f"{n} environments took a step in {(time.perf_counter() - begun) * 1000:.1f} ms"


CHECKS = {
    "sessions do not influence each other": sessions_are_apart,
    "the capacity is kept": capacity_is_kept,
    "a half-close ends the session well": half_close_ends_well,
    "a cut stream frees its environments": cut_stream_frees,
    "silence is no error": silence_is_no_error,
    "a large batch works": large_batch,
}
