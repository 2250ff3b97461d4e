"""Gradients clipped and applied to parameters, as ``clip_grad_norm_`` and ``optimizer.step()`` do, in few calls.

Owns the replacement of the optimizer's own loop; the state stays in the optimizer, so that checkpoints are the same.
Must not know where gradients come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch as th

from aisandbox_trainer import _torch_internals
from aisandbox_trainer.errors import NonFiniteTraining

_UNUSUAL = ("amsgrad", "maximize", "capturable", "differentiable", "centered", "momentum", "decoupled_weight_decay")


@dataclass(frozen=True, slots=True)
class Gradients:
    """The gradients of several parameters: ``parts`` have their shapes and are views on the one ``flat`` tensor."""

    flat: th.Tensor
    parts: list[th.Tensor]

    @classmethod
    def of(cls, parameters: Sequence[th.Tensor]) -> Gradients:
        """Zeros."""
        sizes = [parameter.numel() for parameter in parameters]
        flat = th.zeros(sum(sizes))
        parts = [part.view(own.shape) for part, own in zip(th.split(flat, sizes), parameters, strict=True)]
        return cls(flat, parts)


class OptimizerStep:
    """Steps of one optimizer over ``parameters``; a new one for each update, after the learning rate is set.

    Adam and RMSprop go through PyTorch's functional forms, Adam in its fused kernel; any other optimizer, and these
    with unusual options, through the public ``step``.
    """

    def __init__(self, optimizer: th.optim.Optimizer, parameters: Sequence[th.Tensor], max_norm: float) -> None:
        self._optimizer = optimizer
        self._parameters: list[th.Tensor] = list(parameters)
        self._max_norm = max_norm
        self._terms: dict[str, Any] | None = None
        self._state: list[list[th.Tensor]] = []
        kind = type(optimizer)
        if kind is th.optim.Adam and self._is_plain():
            self._state = self._state_of("exp_avg", "exp_avg_sq")
            self._terms = self._settings("lr", "weight_decay", "eps", "amsgrad", "maximize")
            self._terms["beta1"], self._terms["beta2"] = optimizer.param_groups[0]["betas"]
        elif kind is th.optim.RMSprop and self._is_plain():
            self._state = self._state_of("square_avg")
            self._terms = self._settings("lr", "weight_decay", "eps", "alpha", "momentum", "centered")

    def __call__(self, gradients: Gradients) -> None:
        """Clips the gradients (in place) and takes a step. Raises NonFiniteTraining if one is NaN or infinite."""
        _torch_internals.call_step_hooks(self._optimizer, "pre")
        norm = float(th.linalg.vector_norm(gradients.flat))
        if not math.isfinite(norm):
            raise NonFiniteTraining(
                "a gradient became NaN or infinite; try a lower learning_rate or normalized rewards"
            )
        # The formula of torch.nn.utils.clip_grad_norm_, which would multiply by 1 where nothing is clipped.
        if norm + 1e-6 > self._max_norm:
            gradients.flat.mul_(self._max_norm / (norm + 1e-6))
        if self._terms is None:
            with th.inference_mode(False):  # the optimizer may make its state now
                for parameter, gradient in zip(self._parameters, gradients.parts, strict=True):
                    parameter.grad = gradient
                self._optimizer.step()  # calls the hooks again, which is harmless
            return
        if len(self._state) == 3:
            steps, averages, squares = self._state
            _torch_internals.adam_step(self._parameters, gradients.parts, averages, squares, steps, self._terms)
        else:
            steps, squares = self._state
            _torch_internals.rmsprop_step(self._parameters, gradients.parts, squares, steps, self._terms)
        _torch_internals.call_step_hooks(self._optimizer, "post")

    def _is_plain(self) -> bool:
        group, *others = self._optimizer.param_groups
        return not others and not isinstance(group["lr"], th.Tensor) and not any(group.get(name) for name in _UNUSUAL)

    def _settings(self, *names: str) -> dict[str, Any]:
        return {name: self._optimizer.param_groups[0][name] for name in names}

    def _state_of(self, *averages: str) -> list[list[th.Tensor]]:
        """The step counters and the running averages, a list each; made as the optimizer makes them if it has none."""
        rows = []
        for parameter in self._parameters:
            own = self._optimizer.state[parameter]
            if not own:
                own["step"] = th.tensor(0.0, dtype=th.float32)
                own.update({name: th.zeros_like(parameter, memory_format=th.preserve_format) for name in averages})
            rows.append([own[name] for name in ("step", *averages)])
        return [list(column) for column in zip(*rows, strict=True)]
