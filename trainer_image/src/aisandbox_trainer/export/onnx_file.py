"""A policy graph as the bytes of one ONNX file, and what its inputs and output are called.

Owns the exporter's settings and the default of the input "noise". Must not know SB3, spaces or golden values.

The TorchScript-based exporter takes tens of milliseconds for such a policy and needs no compiler; the newer one takes
seconds. PyTorch will remove it: until then its version is bounded, see docs/decisions/0016.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch as th
from aisandbox_model_store.served_model import ACTION_OUTPUT, NOISE_INPUT
from onnx import helper, numpy_helper
from torch import nn

OPSET = 17
"""The newest operator set that both the exporter and the ONNX Runtimes of the last years have in full."""


def onnx_bytes(
    graph: nn.Module,
    names: Sequence[str],
    examples: Sequence[th.Tensor],
    noise_size: int,
    properties: Mapping[str, str],
) -> bytes:
    """The graph as an ONNX file with inputs ``names`` and "noise", the output "action", and a free batch dimension.

    ``examples``: one batch of two for each name. "noise" is float32 [N, noise_size] and may be left out: its default is
    zeros [1, noise_size], which broadcasts. ``properties`` become the metadata properties of the file.
    """
    buffer: Any = io.BytesIO()  # this exporter takes a file, though it is declared for both exporters to take a path
    inputs = [*names, NOISE_INPUT]
    with _silence(), th.no_grad():
        th.onnx.export(
            graph,
            (*examples, th.zeros(2, noise_size)),
            buffer,
            input_names=inputs,
            output_names=[ACTION_OUTPUT],
            dynamic_axes={NOISE_INPUT: {0: "noise_batch"}} | {name: {0: "batch"} for name in (*names, ACTION_OUTPUT)},
            opset_version=OPSET,
            dynamo=False,
        )
    file = onnx.load_model_from_string(buffer.getvalue())
    found = [value.name for value in file.graph.input]
    if found != inputs:
        raise RuntimeError(f"the exporter made inputs {found}, expected {inputs}")
    # An initializer with the name of an input is that input's default (ONNX IR, "Graphs").
    file.graph.initializer.append(numpy_helper.from_array(np.zeros((1, noise_size), np.float32), NOISE_INPUT))
    _name_output_shape(file.graph.output[0], graph, examples, noise_size)
    file.producer_name = "aisandbox-trainer"
    helper.set_model_props(file, dict(properties))
    onnx.checker.check_model(file, full_check=False)
    data: bytes = file.SerializeToString(deterministic=True)
    return data


def _name_output_shape(
    output: onnx.ValueInfoProto, graph: nn.Module, examples: Sequence[th.Tensor], noise_size: int
) -> None:
    """Give the output the extents that the tracer loses behind a reshape, so that a reader of the file sees them."""
    with th.no_grad():
        shape = graph(*examples, th.zeros(2, noise_size)).shape
    elem_type = output.type.tensor_type.elem_type
    output.CopyFrom(helper.make_tensor_value_info(ACTION_OUTPUT, elem_type, ["batch", *shape[1:]]))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides warnings: that this exporter is deprecated, and the tracer's about constants, which are constant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
