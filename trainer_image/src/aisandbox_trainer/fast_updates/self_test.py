"""A check of the fast code against SB3's own on the model at hand, the first time that it is used.

One forward pass and one real update of copies of the model, on a few rows of its own data: a few milliseconds. Of runs
that are configured alike, in processes of one fork server, the first does it for all. Owns the tolerance. Must not know
how either result is computed.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import structlog
import torch as th
from aisandbox_process.passed_checks import PASSED_CHECKS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.errors import NonFiniteTraining

TOLERANCE = 1e-2
"""How far an update may be off, relative to its own length; rounding stays below a thousandth of it."""
LEARNING_RATE = 1e-3
"""Of the copies: with a very small one, float32 could not tell two updates apart."""
STEPS = 8
"""At most so many steps of at most so many environments are learned from."""

ROUNDING = 1e-5
"""The same of a part that hardly moves, relative to the move of the whole."""

Parts = dict[str, th.Tensor]

log = structlog.get_logger(__name__)


class SelfTested(_sb3_internals.Unsaved):
    """A model that uses its fast code only after it has given SB3's results.

    ``configuration`` is all that decides which code trains it; models of the same one are tested once. Empty: unknown.
    """

    unsaved = ("configuration", "_nets", "nets_found", "_tested", "_differs")
    configuration = ""
    _tested: frozenset[str] = frozenset()
    _differs = False

    def passes(self, name: str, test: Callable[[], bool]) -> bool:
        """Whether the fast code may be used; runs ``test`` the first time, and logs a warning if it fails."""
        if name not in self._tested and not self._differs:
            self._tested |= {name}
            check = f"{name} of {self.configuration}"
            if self.configuration and check in PASSED_CHECKS:
                return True
            try:
                self._differs, error = not test(), "other numbers"
            except Exception as raised:  # whatever a new version of a library may raise
                self._differs, error = True, f"{type(raised).__name__}: {raised}"
            if self._differs:
                log.warning("fast updates differ from stable-baselines3, whose own are used", check=name, error=error)
            elif self.configuration:
                PASSED_CHECKS.add(check)
        return not self._differs

    def for_test(self) -> Any:
        """A copy with its own policy and optimizer, which may be trained without any effect on this model."""
        twin: Any = copy.copy(self)
        # The tensors of a distribution may be results of the last forward pass, which cannot be copied.
        distributions = [each.action_dist for each in self.policy.modules() if hasattr(each, "action_dist")]
        twin.policy = copy.deepcopy(self.policy, {id(each): copy.copy(each) for each in distributions})
        twin.lr_schedule = lambda _progress_remaining: LEARNING_RATE
        twin.set_logger(Logger(None, []))
        twin.nets_found = False
        return twin


def same_forward_pass(expected: Callable[[], Any], found: Callable[[], Any]) -> bool:
    """Whether two functions return the same tensors, drawing the same random numbers."""
    results = []
    for call in (expected, found):
        with unchanged_random_state(), th.no_grad():
            results.append([th.as_tensor(value) for value in call()])
    return all(
        one.shape == other.shape and th.allclose(one.double(), other.double(), 1e-3, 1e-5, equal_nan=True)
        for one, other in zip(*results, strict=True)
    )


def same_update(
    model: SelfTested, expected: Callable[[Any], None], found: Callable[[Any], None], prepare: Callable[[Any], None]
) -> bool:
    """Whether two ways to update change the policy alike; each gets its own copy of the model, after ``prepare``."""
    results = []
    for update in (expected, found):
        twin = model.for_test()
        prepare(twin)
        with unchanged_random_state(), contextlib.suppress(NonFiniteTraining):
            update(twin)
            results.append(_learned_values(twin))
    expected_parts, *rest = results
    if not expected_parts["weights"].isfinite().all():
        return not rest or not rest[0]["weights"].isfinite().all()
    if not rest:
        return False
    return _same_changes(_learned_values(model), expected_parts, rest[0])


def _same_changes(before: Parts, expected_parts: Parts, found_parts: Parts) -> bool:
    """Whether all parts have changed equally; in a small one, rounding of the whole is allowed."""
    if expected_parts.keys() != found_parts.keys():
        return False
    moves = {name: float((value - before.get(name, 0.0)).norm()) for name, value in expected_parts.items()}
    whole: dict[str, float] = {}
    for name, move in moves.items():
        whole[name.partition(" ")[0]] = whole.get(name.partition(" ")[0], 0.0) + move
    return all(
        float((found_parts[name] - expected_parts[name]).norm())
        <= TOLERANCE * move + ROUNDING * whole[name.partition(" ")[0]]
        for name, move in moves.items()
    )


def few_rows(buffer: RolloutBuffer) -> RolloutBuffer:
    """A full buffer with the first steps of the first environments of ``buffer``; shares its arrays."""
    few = copy.copy(buffer)
    for name, value in vars(buffer).items():
        if isinstance(value, dict):  # observations of a Dict; the other dicts of the buffer hold shapes
            setattr(few, name, {key: _first_rows(inner, buffer) for key, inner in value.items()})
        else:
            setattr(few, name, _first_rows(value, buffer))
    few.buffer_size, few.n_envs = min(STEPS, buffer.buffer_size), min(STEPS, buffer.n_envs)
    few.generator_ready = False
    return few


def _first_rows(value: Any, buffer: RolloutBuffer) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.shape[:2] == (buffer.buffer_size, buffer.n_envs):
        return value[:STEPS, :STEPS]
    if value.ndim == 4 and value.shape[0:3:2] == (buffer.buffer_size, buffer.n_envs):  # states of an LSTM
        return value[:STEPS, :, :STEPS]
    return value


@contextlib.contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Sets NumPy's and torch's global generators back afterwards."""
    numpy_state, torch_state = np.random.get_state(), th.get_rng_state()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        th.set_rng_state(torch_state)


def _learned_values(model: BaseAlgorithm) -> Parts:
    """All weights, running statistics, and the optimizers' state: Adam's steps do not show the scale of a gradient."""
    learned = [*model.policy.parameters(), *_sb3_internals.variables_of(model).values()]
    parts = {"weights": th.cat([parameter.detach().flatten().double() for parameter in learned])}
    parts |= {f"statistics.{name}": value.clone().double() for name, value in model.policy.named_buffers()}
    for optimizer, content in model.get_parameters().items():
        for index, state in content.get("state", {}).items() if optimizer != "policy" else ():
            for name, value in state.items():
                if isinstance(value, th.Tensor):
                    parts[f"{optimizer}.{name} {index}"] = value.detach().clone().double()
    return parts
