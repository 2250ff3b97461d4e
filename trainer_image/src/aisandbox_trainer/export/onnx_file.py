"""A policy graph as the bytes of one ONNX file, and what its inputs and output are called.

Owns the exporter's settings and the defaults of inputs. Must not know SB3, spaces or golden values.

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
from aisandbox_model_store.served_model import ACTION_OUTPUT
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

OPSET = 17
"""The newest operator set that both the exporter and the ONNX Runtimes of the last years have in full."""


def onnx_bytes(
    graph: nn.Module,
    names: Sequence[str],
    examples: Sequence[th.Tensor],
    defaults: Mapping[str, NDArray[Any]],
    properties: Mapping[str, str],
    states: Sequence[str] = (),
) -> bytes:
    """The graph as an ONNX file with inputs ``names`` and those of ``defaults``, and a free batch dimension.

    Its outputs are "action" and ``states``, which are the rest of what the graph gives. ``examples``: one batch of two
    for each name. ``defaults``: what an input that may be left out is then, [1, size], which broadcasts to [N, size].
    ``properties`` become the metadata properties of the file.
    """
    buffer: Any = io.BytesIO()  # this exporter takes a file, though it is declared for both exporters to take a path
    inputs, outputs = [*names, *defaults], [ACTION_OUTPUT, *states]
    pairs = [th.from_numpy(np.repeat(default, 2, axis=0)) for default in defaults.values()]
    with _silence(), th.no_grad():
        th.onnx.export(
            graph,
            (*examples, *pairs),
            buffer,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: f"{name}_batch"} for name in defaults}
            | {name: {0: "batch"} for name in (*names, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    file = onnx.load_model_from_string(buffer.getvalue())
    found = [value.name for value in file.graph.input]
    if found != inputs:
        raise RuntimeError(f"the exporter made inputs {found}, expected {inputs}")
    # An initializer with the name of an input is that input's default (ONNX IR, "Graphs").
    file.graph.initializer.extend(numpy_helper.from_array(default, name) for name, default in defaults.items())
    _name_output_shapes(file.graph.output, graph, (*examples, *pairs))
    file.producer_name = "aisandbox-trainer"
    helper.set_model_props(file, dict(properties))
    onnx.checker.check_model(file, full_check=False)
    data: bytes = file.SerializeToString(deterministic=True)
    return data


def _name_output_shapes(
    outputs: Sequence[onnx.ValueInfoProto], graph: nn.Module, examples: Sequence[th.Tensor]
) -> None:
    """Give the outputs the extents that the tracer loses behind a reshape, so that a reader of the file sees them."""
    with th.no_grad():
        values = graph(*examples)
    for output, value in zip(outputs, values if isinstance(values, tuple) else (values,), strict=True):
        elem_type = output.type.tensor_type.elem_type
        output.CopyFrom(helper.make_tensor_value_info(output.name, elem_type, ["batch", *value.shape[1:]]))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides warnings: that this exporter is deprecated, and the tracer's about constants, which are constant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
