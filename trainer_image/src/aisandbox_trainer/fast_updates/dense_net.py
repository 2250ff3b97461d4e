"""A stack of linear layers and activations whose gradients are formulas instead of autograd's.

Owns the forward and the backward pass. Must not know losses, policies or optimizers.

For networks of a few thousand weights the bookkeeping of autograd costs several times the arithmetic. The kernels here
are those autograd would call, in its order, so that the numbers are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch as th
from torch import nn

from aisandbox_trainer import _torch_internals

Tape = list[th.Tensor]
Forward = Callable[[th.Tensor], th.Tensor]
Backward = Callable[[th.Tensor, th.Tensor], th.Tensor]

Activation = tuple[Forward, Backward]
"""In place, and the gradient of its input from that of its output and the output itself."""


def _tanh(module: nn.Module) -> Activation:
    return th.tanh_, lambda gradient, output: _torch_internals.tanh_backward(gradient, output)


def _relu(module: nn.Module) -> Activation:
    return th.relu_, lambda gradient, output: _torch_internals.relu_backward(gradient, output)


def _hardtanh(module: nn.Module) -> Activation:
    low, high = cast(nn.Hardtanh, module).min_val, cast(nn.Hardtanh, module).max_val
    return (
        lambda value: value.clamp_(low, high),
        lambda gradient, output: gradient * ((output > low) & (output < high)),
    )


_ACTIVATIONS: dict[type[nn.Module], Callable[[nn.Module], Activation]] = {
    nn.Tanh: _tanh,
    nn.ReLU: _relu,
    nn.Hardtanh: _hardtanh,
}

_NARROW = 16
_LARGE = 2**14
"""Elements of an output's gradient: from there on MKL multiplies it by an input of less than _NARROW columns slowly."""


@dataclass(frozen=True, slots=True)
class _Layer:
    weight: nn.Parameter
    bias: nn.Parameter
    activation: Activation | None


class DenseNet:
    """Linear layers, each with or without an activation behind it; a view on an nn.Module's own parameters."""

    def __init__(self, layers: Iterable[_Layer]) -> None:
        self._layers = tuple(layers)

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> DenseNet | None:
        """The same network as these modules one after the other; None if one of them is of a class not covered here."""
        layers: list[_Layer] = []
        for module in modules:
            if type(module) is nn.Linear and isinstance(module.bias, nn.Parameter):
                layers.append(_Layer(cast(nn.Parameter, module.weight), module.bias, None))
            elif type(module) in _ACTIVATIONS and layers and layers[-1].activation is None:
                last = layers.pop()
                layers.append(_Layer(last.weight, last.bias, _ACTIVATIONS[type(module)](module)))
            else:
                return None
        return cls(layers) if layers else None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weight and bias of each layer, first layer first."""
        return [parameter for layer in self._layers for parameter in (layer.weight, layer.bias)]

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """The output [N, out] for inputs [N, in]. For callers that record no gradients."""
        value = inputs
        for layer in self._layers:
            value = th.addmm(layer.bias, value, layer.weight.t())
            if layer.activation is not None:
                value = layer.activation[0](value)
        return value

    def record(self, inputs: th.Tensor) -> tuple[th.Tensor, Tape]:
        """The output, and what :meth:`gradients` needs: the input and the output of every layer."""
        tape = [inputs]
        for layer in self._layers:
            value = th.addmm(layer.bias, tape[-1], layer.weight.t())
            if layer.activation is not None:
                value = layer.activation[0](value)
            tape.append(value)
        return tape[-1], tape

    def gradients(
        self, tape: Tape, gradient: th.Tensor, into: Sequence[th.Tensor], *, of_input: bool = False
    ) -> th.Tensor:
        """Writes the gradients of :attr:`parameters` into tensors of their shapes, from that of the output [N, out].

        Returns the gradient of the input if ``of_input``.
        """
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            if layer.activation is not None:
                gradient = layer.activation[1](gradient, tape[index + 1])
            _weight_gradient(gradient, tape[index], into[2 * index])
            th.sum(gradient, 0, out=into[2 * index + 1])
            if index or of_input:
                gradient = gradient.mm(layer.weight)
        return gradient

    def input_gradient(
        self, tape: Tape, gradient: th.Tensor, columns: int | None = None, rows: th.Tensor | None = None
    ) -> th.Tensor:
        """The gradient of the last ``columns`` of the input, or of all, from that of the output [N, out].

        ``rows``: the indices of the rows of the tape that ``gradient`` has; None: all.
        """
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            if layer.activation is not None:
                output = tape[index + 1]
                gradient = layer.activation[1](gradient, output if rows is None else output.index_select(0, rows))
            gradient = gradient.mm(layer.weight if index or columns is None else layer.weight[:, -columns:])
        return gradient


def _weight_gradient(gradient: th.Tensor, inputs: th.Tensor, into: th.Tensor) -> None:
    """Writes gradient^T inputs, [out, in]; of large and narrow factors as the transpose of the transposed product."""
    if inputs.shape[1] < _NARROW and gradient.numel() >= _LARGE:
        into.copy_(th.mm(inputs.t(), gradient).t())
    else:
        th.mm(gradient.t(), inputs, out=into)
