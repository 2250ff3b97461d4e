"""Checks of what is refused in band, of seeds, and of the order of replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire.spaces import Leaf
from aisandbox_wire.tensors import Array

from aisandbox_environment.compliance.examination import (
    Driver,
    Examination,
    Failed,
    kind_of,
    reset_request,
    sample_actions,
    step_request,
)

_STEPS = 20
_INVALID = pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT
_OUT_OF_ORDER = pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER
_SEEDED = "An environment that is reset with a seed takes all its randomness from a generator made from that seed."


def step_before_reset(examination: Examination) -> str:
    """A step that comes too early."""
    with examination.session(1) as session:
        actions = sample_actions(session.spec.action_leaf, 1, np.random.default_rng(0))
        advice = "There is no episode yet: answer with SimulatorReply.error, and keep the stream."
        message = session.refused(step_request(actions), _OUT_OF_ORDER, advice)
        session.reader.reset(session.reset())
        return message


def second_open(examination: Examination) -> str:
    """An open that comes too late."""
    with examination.session(1) as session:
        advice = "A session opens once: answer with SimulatorReply.error, and keep the stream."
        message = session.refused(examination.opening(1), _OUT_OF_ORDER, advice)
        session.reader.reset(session.reset())
        return message


def wrong_seeds(examination: Examination) -> str:
    """One seed too many."""
    with examination.session(examination.room(2)) as session:
        session.reset()
        advice = "There are no seeds, or one for each environment."
        return session.refused(reset_request([1] * (session.n + 1)), _INVALID, advice)


def wrong_actions(examination: Examination) -> str:
    """Actions of the wrong shape and type, and outside the space, between steps that must not notice."""
    n = examination.room(2)
    with examination.session(n) as session:
        actions, expected = session.record(_seeds(n), _STEPS)
    tried = []
    with examination.session(n) as session:
        seen: list[object] = [session.reset(_seeds(n))]
        for name, wrong in _wrong(session.spec.action_leaf, n):
            advice = f"This was {name}: check actions before the first environment takes its step."
            session.refused(step_request(wrong), _INVALID, advice)
            tried.append(name)
        seen.extend(session.step(action) for action in actions)
    _same(expected, seen, "a refused request to change nothing", "Check all actions first, then step.")
    return f"refused: {', '.join(tried)}"


def seeds_reproduce(examination: Examination) -> str:
    """Twice the same."""
    n = examination.room(3)
    with examination.session(n) as session:
        actions, first = session.record(_seeds(n), _STEPS)
        again = session.replay(_seeds(n), actions)
    _same(first, again, "the same seeds and actions to give the same episode in one session", _SEEDED)
    with examination.session(n) as session:
        other = session.replay(_seeds(n), actions)
    _same(first, other, "the same seeds and actions to give the same episode in another session", _SEEDED)
    return f"{n} environments, {_STEPS} steps, three times the same"


def environments_are_independent(examination: Examination) -> str:
    """The last environment of a batch, against the same one alone."""
    n = examination.room(3)
    if n < 2:
        return "not looked at: the capacity is 1"
    with examination.session(n) as session:
        actions, _ = session.record(_seeds(n), _STEPS)
        together = _observations(session, _seeds(n), actions)
    with examination.session(1) as session:
        alone = _observations(session, _seeds(n)[-1:], [action[-1:] for action in actions])
    for step, (batch, one) in enumerate(zip(together, alone, strict=True)):
        if any(not np.array_equal(a[-1], b[0]) for a, b in zip(batch, one, strict=True)):
            raise Failed(
                f"environment {n - 1} of {n} to go as it does alone with the same seed and actions",
                f"another observation after {step} steps",
                "Environments share nothing: no generator, no state. The i-th seed and action are the i-th one's.",
            )
    return f"environment {n - 1} of {n} goes as it does alone"


def pipelined_requests(examination: Examination) -> str:
    """Requests sent without waiting."""
    n = examination.room(2)
    with examination.session(n) as session:
        actions, expected = session.record(_seeds(n), _STEPS)
    with examination.session(n) as session:
        session.send(reset_request(_seeds(n)))
        for action in actions:
            session.send(step_request(action))
        seen: list[object] = []
        for i in range(_STEPS + 1):
            reply = session.receive()
            kind = "reset" if i == 0 else "step"
            if reply.WhichOneof("reply") != kind:
                raise Failed(f"`{kind}` as reply {i}", kind_of(reply), "Process requests in order, one reply each.")
            seen.append(getattr(reply, kind))
    _same(expected, seen, "requests sent ahead to be answered like others", "Process them in order, one after another.")
    return f"{_STEPS + 1} requests sent ahead, answered in order"


def _seeds(n: int) -> list[int]:
    return [1000 + i for i in range(n)]


def _observations(session: Driver, seeds: Sequence[int], actions: Sequence[Array]) -> list[Sequence[Array]]:
    seen = [session.reader.reset(session.reset(seeds)).observations]
    return seen + [session.reader.step(session.step(action)).observations for action in actions]


def _same(expected: Sequence[object], seen: Sequence[object], what: str, advice: str) -> None:
    for step, (one, other) in enumerate(zip(expected, seen, strict=True)):
        if one != other:
            raise Failed(what, f"a difference after {step} steps", advice)


def _wrong(leaf: Leaf, n: int) -> Iterator[tuple[str, Array]]:
    """Batches of actions that are wrong, each with its name."""
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
    "a step before the first reset is refused in band": step_before_reset,
    "a second open is refused in band": second_open,
    "the wrong number of seeds is refused in band": wrong_seeds,
    "wrong actions are refused in band and change nothing": wrong_actions,
    "seeds reproduce episodes": seeds_reproduce,
    "environments are independent of each other": environments_are_independent,
    "requests sent ahead are answered in order": pipelined_requests,
}
