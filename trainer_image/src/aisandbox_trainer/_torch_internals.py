"""Every name of PyTorch that is not documented, in one place: fused optimizers, kernels of autograd.

Written for the versions that this package's metadata allows. AVAILABLE is False where one of the names is missing; the
public way is then SB3's own ``train``, with ``optimizer.step()`` and autograd. That the names still mean the same is
checked by :mod:`aisandbox_trainer.fast_updates.self_test`. Must not know policies or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch as th

_fused_adam: Any = None
_rmsprop: Any = None
_tanh_backward: Any = None
_threshold_backward: Any = None
try:
    from torch.optim.rmsprop import rmsprop as _rmsprop

    _tanh_backward = th.ops.aten.tanh_backward.default
    _threshold_backward = th.ops.aten.threshold_backward.default
    _fused_adam = th._fused_adam_
    AVAILABLE = all(hasattr(th, name) for name in ("_foreach_mul_", "_foreach_add_"))
except (ImportError, AttributeError):
    AVAILABLE = False

Tensors = Sequence[th.Tensor]


def tanh_backward(gradient: th.Tensor, output: th.Tensor) -> th.Tensor:
    """The gradient of tanh's input from those of its output and its output, as autograd computes it."""
    result: th.Tensor = _tanh_backward(gradient, output)
    return result


def relu_backward(gradient: th.Tensor, output: th.Tensor) -> th.Tensor:
    """The gradient of ReLU's input from that of its output and its output, as autograd computes it."""
    result: th.Tensor = _threshold_backward(gradient, output, 0)
    return result


def adam_step(
    parameters: Tensors,
    gradients: Tensors,
    averages: Tensors,
    squares: Tensors,
    steps: Tensors,
    options: dict[str, Any],
) -> None:
    """One step of ``torch.optim.Adam`` in its fused kernel; changes the parameters and the three lists of state."""
    th._foreach_add_(list(steps), 1)
    _fused_adam(parameters, gradients, averages, squares, [], steps, **options)


def rmsprop_step(
    parameters: Tensors, gradients: Tensors, squares: Tensors, steps: Tensors, options: dict[str, Any]
) -> None:
    """One step of ``torch.optim.RMSprop`` over all parameters at once; changes the parameters and the state."""
    _rmsprop(parameters, gradients, squares, [], [], steps, foreach=True, **options)


def move_towards(targets: Tensors, sources: Tensors, part: float) -> None:
    """Moves all ``targets`` a ``part`` of the way to the ``sources``; with the roundings of SB3's ``polyak_update``."""
    th._foreach_mul_(list(targets), 1 - part)
    th._foreach_add_(list(targets), list(sources), alpha=part)


def call_step_hooks(optimizer: th.optim.Optimizer, when: str) -> None:
    """Calls the hooks "pre" or "post" that are registered, for a step that does not go through ``optimizer.step``."""
    for hook in list(getattr(optimizer, f"_optimizer_step_{when}_hooks", {}).values()):
        hook(optimizer, (), {})
