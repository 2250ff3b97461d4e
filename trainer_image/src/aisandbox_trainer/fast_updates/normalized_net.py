"""Networks with batch renormalization between their layers, as CrossQ has them, whose gradients are formulas too.

Owns the layer (Ioffe 2017, "Batch Renormalization") with its running statistics, and which class of network covers
given modules. Must not know losses, policies or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch as th
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import nn

from aisandbox_trainer.fast_updates.dense_net import DenseNet


class Net(Protocol):
    """A network from vectors to vectors: a DenseNet or a NormalizedNet."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """In the order of the layers."""
        ...

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """The output [N, out] for inputs [N, in]. For callers that record no gradients."""
        ...

    def record(self, inputs: th.Tensor) -> tuple[th.Tensor, Any]:
        """The output, and what the gradients need."""
        ...

    def gradients(
        self, tape: Any, gradient: th.Tensor, into: Sequence[th.Tensor], *, of_input: bool = False
    ) -> th.Tensor:
        """Writes the gradients of :attr:`parameters` into tensors of their shapes, from that of the output [N, out].

        Returns the gradient of the input if ``of_input``.
        """
        ...

    def input_gradient(
        self, tape: Any, gradient: th.Tensor, columns: int | None = None, rows: th.Tensor | None = None
    ) -> th.Tensor:
        """The gradient of the last ``columns`` of the input, or of all, from that of the output [N, out].

        ``rows``: the indices of the rows of the tape that ``gradient`` has; None: all.
        """
        ...


def net_of(modules: Iterable[nn.Module]) -> Net | None:
    """The same network as these modules one after the other; None if one of them is of a class not covered."""
    listed = list(modules)
    normalized = any(type(module) is BatchRenorm1d for module in listed)
    return NormalizedNet.of(listed) if normalized else DenseNet.of(listed)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a layer has computed of one batch; [F] each, but for ``centered``.

    The output is (centered + offset) * factor + bias: factor = scale * inverse, inverse = 1 / sqrt(variance + eps).
    """

    centered: th.Tensor
    """The inputs [N, F] less their mean, which is the batch's while the layer learns, else the running one."""
    inverse: th.Tensor
    factor: th.Tensor
    offset: th.Tensor | float = 0.0
    """The batch's mean less the one that is used: d * std / r."""
    mean_slope: th.Tensor | float = 0.0
    """The derivative of the mean that is used by the batch's variance; r and d are constants."""
    variance_slope: th.Tensor | float = 1.0
    """The same of the variance that is used, the batch's / r^2."""


class RenormLayer:
    """A view on a layer of sb3-contrib; ``module.training`` says whether it takes the statistics of the batch."""

    def __init__(self, module: BatchRenorm1d) -> None:
        self._module: Any = module
        self.parameters: list[nn.Parameter] = [module.scale, module.bias]

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """See Net."""
        return self.record(inputs)[0]

    def record(self, inputs: th.Tensor) -> tuple[th.Tensor, _Batch]:
        """See Net; moves the running statistics where the module is training."""
        module = self._module
        batch = self._learned(inputs) if module.training else self._running(inputs)
        shift = module.bias + batch.offset * batch.factor
        return th.addcmul(shift, batch.centered, batch.factor), batch

    def _running(self, inputs: th.Tensor) -> _Batch:
        inverse = 1 / (self._module.ra_var + self._module.eps).sqrt()
        return _Batch(inputs - self._module.ra_mean, inverse, self._module.scale * inverse)

    def _learned(self, inputs: th.Tensor) -> _Batch:
        module = self._module
        mean = inputs.mean(0)
        centered = inputs - mean
        variance = (centered * centered).sum(0) / (len(inputs) - 1)
        used = variance
        terms: tuple[th.Tensor, ...] = ()
        if module.steps > module.warmup_steps:
            running_std = (module.ra_var + module.eps).sqrt()
            r = ((variance + module.eps).sqrt() / running_std).clamp(1 / module.rmax, module.rmax)
            d = ((mean - module.ra_mean) / running_std).clamp(-module.dmax, module.dmax)
            std, used = variance.sqrt(), variance / r**2
            terms = (d * std / r, -d / (2 * std * r), 1 / r**2)
        module.ra_mean.add_(module.momentum * (mean - module.ra_mean))
        module.ra_var.add_(module.momentum * (variance - module.ra_var))
        module.steps.add_(1)
        inverse = 1 / (used + module.eps).sqrt()
        return _Batch(centered, inverse, module.scale * inverse, *terms)

    def gradients(
        self, batch: _Batch, gradient: th.Tensor, into: Sequence[th.Tensor], *, of_input: bool = False
    ) -> th.Tensor:
        """See Net; of a batch whose statistics were taken, by way of these too."""
        n = len(gradient)
        total = th.sum(gradient, 0, out=into[1])
        # Of the normalized inputs, before the division by the standard deviation.
        moment = (gradient * batch.centered).sum(0) + batch.offset * total
        th.mul(moment, batch.inverse, out=into[0])
        if not of_input:
            return gradient
        grad_mean = -batch.factor * total
        grad_variance = -0.5 * batch.factor * batch.inverse**2 * moment * batch.variance_slope
        grad_variance = grad_variance + grad_mean * batch.mean_slope
        of_input_alone = th.addcmul(grad_mean / n, gradient, batch.factor)
        return of_input_alone.addcmul_(batch.centered, grad_variance * (2 / (n - 1)))

    def input_gradient(
        self, batch: _Batch, gradient: th.Tensor, columns: int | None = None, rows: th.Tensor | None = None
    ) -> th.Tensor:
        """See Net; of a batch that was normalized by the running statistics."""
        found = gradient * batch.factor
        return found if columns is None else found[:, -columns:]


class NormalizedNet:
    """Layers of batch renormalization, and what is between them."""

    def __init__(self, stages: Sequence[RenormLayer | DenseNet]) -> None:
        self._stages = stages
        self.parameters = [parameter for stage in stages for parameter in stage.parameters]

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> NormalizedNet | None:
        """The same network as these modules one after the other; None if one of them is of a class not covered."""
        stages: list[RenormLayer | DenseNet | None] = []
        between: list[nn.Module] = []
        for module in modules:
            if type(module) is not BatchRenorm1d:
                between.append(module)
                continue
            stages += [DenseNet.of(between)] if between else []
            stages.append(RenormLayer(module) if module.affine else None)
            between = []
        stages += [DenseNet.of(between)] if between else []
        covered = [stage for stage in stages if stage is not None]
        return cls(covered) if len(covered) == len(stages) else None

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """See Net."""
        for stage in self._stages:
            inputs = stage(inputs)
        return inputs

    def record(self, inputs: th.Tensor) -> tuple[th.Tensor, list[Any]]:
        """See Net."""
        tapes = []
        for stage in self._stages:
            inputs, tape = stage.record(inputs)
            tapes.append(tape)
        return inputs, tapes

    def gradients(
        self, tapes: list[Any], gradient: th.Tensor, into: Sequence[th.Tensor], *, of_input: bool = False
    ) -> th.Tensor:
        """See Net."""
        end = len(into)
        for index in range(len(self._stages) - 1, -1, -1):
            stage = self._stages[index]
            start = end - len(stage.parameters)
            needed = of_input or index > 0
            gradient = stage.gradients(tapes[index], gradient, into[start:end], of_input=needed)
            end = start
        return gradient

    def input_gradient(
        self, tapes: list[Any], gradient: th.Tensor, columns: int | None = None, rows: th.Tensor | None = None
    ) -> th.Tensor:
        """See Net."""
        for stage, tape in zip(reversed(self._stages[1:]), reversed(tapes[1:]), strict=True):
            gradient = stage.input_gradient(tape, gradient, None, rows)
        return self._stages[0].input_gradient(tapes[0], gradient, columns, rows)
