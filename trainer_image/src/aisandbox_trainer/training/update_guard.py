"""An update that a stop can interrupt: the weights return to those before it.

An update of many epochs may take longer than the process may live after SIGTERM. Between two steps of the optimizer
the stop is looked at; weights, optimizer and counter are then restored from a copy made before the update, so that the
rollback point before the rollout is exact. The copy is left out where updates are short, because a stop waits for their
end. Must not know rollouts or what is saved.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.runtime.stop import Stop

SHORT_SECONDS = 0.2
"""The update after one that was shorter than this is not copied."""


@dataclass(frozen=True, slots=True)
class _Before:
    policy: dict[str, Any]
    optimizer: dict[str, Any]
    updates: int


class UpdateGuard:
    """A context around an update of ``model``: it raises StopRequested ``seconds`` after a stop was requested.

    Off-policy algorithms need no copy: they can continue after every step of their first optimizer.
    """

    def __init__(
        self, model: BaseAlgorithm, stop: Stop, seconds: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model = model
        self._stop = stop
        self._seconds = seconds
        self._clock = clock
        self._last_seconds = SHORT_SECONDS
        self._before: _Before | None = None
        self._hook: Any = None
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._clock()
        if self._last_seconds < SHORT_SECONDS:
            return
        model: Any = self._model
        if isinstance(self._model, OnPolicyAlgorithm):
            self._before = _Before(
                copy.deepcopy(model.policy.state_dict()),
                copy.deepcopy(model.policy.optimizer.state_dict()),
                _sb3_internals.count_updates(model, 0),
            )
        self._hook = _first_optimizer(model).register_step_pre_hook(self._before_step)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if kind is None:  # else restore() needs the copy
            self._before = None
            self._last_seconds = self._clock() - self._started

    def restore(self) -> None:
        """Returns the model to the state before an update that an exception has left; else does nothing."""
        before, self._before = self._before, None
        if before is not None:
            model: Any = self._model
            model.policy.load_state_dict(before.policy)
            model.policy.optimizer.load_state_dict(before.optimizer)
            _sb3_internals.count_updates(model, before.updates - _sb3_internals.count_updates(model, 0))

    def _before_step(self, *_: Any) -> None:
        if self._stop.overdue(self._seconds):
            if hasattr(self._model, "policy_delay"):  # these count an update before its first step
                _sb3_internals.count_updates(self._model, -1)
            self._stop.check()


def _first_optimizer(model: Any) -> Any:
    """Whichever makes the first step of an update: that of a learned ``ent_coef``, else of the critics."""
    if isinstance(model, OnPolicyAlgorithm):  # RecurrentPPO may have a critic too, a part of its policy
        return model.policy.optimizer
    entropy, critic = getattr(model, "ent_coef_optimizer", None), getattr(model.policy, "critic", None)
    if entropy is not None and not hasattr(model, "policy_delay"):  # else it steps with the actor, after the critics
        return entropy
    return model.policy.optimizer if critic is None else critic.optimizer
