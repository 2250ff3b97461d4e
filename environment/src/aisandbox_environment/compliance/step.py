"""Checks of `step`: its order, and the actions that are refused. :mod:`.episodes` has the checks of its replies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_wire import Array, Leaf

from aisandbox_environment.compliance.checks import CheckFailed, SimulatorUnderTest
from aisandbox_environment.compliance.reset import STEPS, check_same, seeds_of
from aisandbox_environment.compliance.streams import (
    RawSession,
    kind_of,
    reset_request,
    sample_actions,
    step_request,
)

_MOST_ALLOWED = 200
"""Steps in which a forbidden action is looked for."""
_FORBIDDEN_ADVICE = (
    "Refuse it with INVALID_ARGUMENT before the first environment takes its step, or take the step; see "
    "StepReply.action_masks."
)


def step_before_reset_is_refused(simulator: SimulatorUnderTest) -> str:
    """A step before the first reset is refused in band with OUT_OF_ORDER."""
    with RawSession(simulator, 1) as session:
        request = step_request(sample_actions(session.spec.action_leaf, 1, np.random.default_rng(0)))
        advice = "There is no episode yet: answer with SimulatorReply.error, and keep the stream."
        message = session.expect_error(request, pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER, advice)
        session.reader.reset(session.reset())
        return message


def wrong_actions_are_refused(simulator: SimulatorUnderTest) -> str:
    """Actions of the wrong shape, dtype or range are refused in band; the steps after them are as without them."""
    n = simulator.available(2)
    with RawSession(simulator, n) as session:
        actions, expected = session.record(seeds_of(n), STEPS)
    tried = []
    with RawSession(simulator, n) as session:
        replies: list[object] = [session.reset(seeds_of(n))]
        for name, wrong in _wrong_actions(session.spec.action_leaf, n):
            advice = f"This was {name}: check actions before the first environment takes its step."
            session.expect_error(step_request(wrong), pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, advice)
            tried.append(name)
        replies.extend(session.step(action) for action in actions)
    check_same(expected, replies, "a refused request to change nothing", "Check all actions first, then step.")
    return f"refused: {', '.join(tried)}"


def forbidden_actions_do_not_end_the_session(simulator: SimulatorUnderTest) -> str:
    """A forbidden action is refused in band and changes nothing, or is a step like any other."""
    if not simulator.spec.action_masks:
        return "no action masks are declared"
    n = simulator.available(2)
    random = np.random.default_rng(11)
    with RawSession(simulator, n) as session:
        session.reset(seeds_of(n))
        before: list[Array] = []
        while (forbidden := session.forbidden(random)) is None:
            if len(before) == _MOST_ALLOWED:
                return f"not seen: no action was forbidden in {_MOST_ALLOWED} random steps of {n} environments"
            before.append(session.sample(random))
            session.step(before[-1])
        allowed = session.sample(random)
        expected = session.step(allowed)
    with RawSession(simulator, n) as session:
        session.replay(seeds_of(n), before)
        try:
            reply = session.exchange(step_request(forbidden))
        except StreamEnded as end:
            ended = f"the end of the stream: {end.code.name} ({end.details})"
            raise CheckFailed("a reply to a step with a forbidden action", ended, _FORBIDDEN_ADVICE) from None
        if reply.WhichOneof("reply") == "step":
            session.reader.step(reply.step)
            session.keep_masks(reply.step.action_masks)
            session.reader.step(session.step(session.sample(random)))
            return "taken, as a step like any other"
        if reply.error.code != pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT:
            code = "an in-band error SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, or `step`"
            raise CheckFailed(code, kind_of(reply), _FORBIDDEN_ADVICE)
        rule = "a refused request to change nothing"
        check_same([expected], [session.step(allowed)], rule, "Check all actions first, then step.")
        return f"refused: {reply.error.message}"


def requests_sent_ahead_are_answered(simulator: SimulatorUnderTest) -> str:
    """Requests that do not wait for replies are answered in order, as if they had."""
    n = simulator.available(2)
    with RawSession(simulator, n) as session:
        actions, expected = session.record(seeds_of(n), STEPS)
    with RawSession(simulator, n) as session:
        session.send(reset_request(seeds_of(n)))
        for action in actions:
            session.send(step_request(action))
        replies: list[object] = []
        for i in range(STEPS + 1):
            reply = session.receive()
            kind = "reset" if i == 0 else "step"
            if reply.WhichOneof("reply") != kind:
                raise CheckFailed(
                    f"`{kind}` as reply {i}", kind_of(reply), "Process requests in order, one reply each."
                )
            replies.append(getattr(reply, kind))
    rule = "requests sent ahead to be answered like others"
    check_same(expected, replies, rule, "Process them in order, one at a time.")
    return f"{STEPS + 1} requests sent ahead, answered in order"


def _wrong_actions(leaf: Leaf, n: int) -> Iterator[tuple[str, Array]]:
    """Batches of actions that must be refused, each with its name."""
    right = sample_actions(leaf, n, np.random.default_rng(3))
    yield "one action too many", np.concatenate([right, right[:1]])
    yield "one dimension too many", right[..., np.newaxis]
    yield "another dtype", right.astype(np.float32 if leaf.dtype != np.float32 else np.float64)
    if leaf.kind == "box":
        assert leaf.high is not None  # noqa: S101 -- a box has bounds
        above = right.copy()
        if leaf.dtype.kind == "f":
            above[-1] = leaf.high + np.maximum(np.abs(leaf.high), 1)
            yield "an action above its bound", above
            above = right.copy()
            above[-1] = np.nan
            yield "an action that is NaN", above
        elif (leaf.high < np.iinfo(leaf.dtype).max).all():
            above[-1] = leaf.high + 1
            yield "an action above its bound", above
        return
    above, below = right.copy(), right.copy()
    above[-1] = leaf.start + leaf.n if leaf.kind == "discrete" else (2 if leaf.nvec is None else leaf.nvec)
    below[-1] = leaf.start - 1
    yield "an action above its range", above
    yield "an action below its range", below


CHECKS = {
    "a step before the first reset is refused in band": step_before_reset_is_refused,
    "wrong actions are refused in band and change nothing": wrong_actions_are_refused,
    "forbidden actions do not end the session": forbidden_actions_do_not_end_the_session,
    "requests sent ahead are answered in order": requests_sent_ahead_are_answered,
}
