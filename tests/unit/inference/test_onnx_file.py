"""ONNX files that no trainer writes are refused before ONNX Runtime sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from aisandbox_inference.onnx_file import problem_of
from onnx import TensorProto, helper, numpy_helper
from onnx_policies import LinearPolicy


def model(*nodes: onnx.NodeProto, initializers: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(list(nodes), "g", [value], [value], initializer=list(initializers))
    return helper.make_model(graph)


def loop() -> onnx.NodeProto:
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "b", [condition], [condition])
    return helper.make_node("Loop", ["", "c"], ["y"], body=body)


def external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def with_functions() -> onnx.ModelProto:
    made = model(helper.make_node("Relu", ["x"], ["y"]))
    made.functions.add(name="Relu", domain="mine")
    return made


def with_a_second_graph() -> bytes:
    """A field that is there twice is merged by Protobuf: both must be looked at."""
    return model(helper.make_node("Relu", ["x"], ["y"])).SerializeToString() + model(loop()).SerializeToString()


HOSTILE = {
    "loop": (model(loop()).SerializeToString(), "operator 'Loop'"),
    "graph": (model(helper.make_node("Relu", ["x"], ["y"], body=model().graph)).SerializeToString(), "a graph inside"),
    "file": (model(initializers=(external(),)).SerializeToString(), "another file"),
    "file of a constant": (
        model(helper.make_node("Constant", [], ["y"], value=external())).SerializeToString(), "another file"
    ),
    "domain": (model(helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft")).SerializeToString(), "domain"),
    "functions": (with_functions().SerializeToString(), "functions"),
    "second graph": (with_a_second_graph(), "operator 'Loop'"),
    "text": (b"hello", "not an ONNX file"),
    "length": (b"\x3a\xff\xff\xff\xff\x7f", "not an ONNX file"),
    "number": (b"\xff" * 20, "not an ONNX file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_file_that_no_trainer_writes_is_refused(name: str) -> None:
    data, problem = HOSTILE[name]
    assert problem in problem_of(data)


def test_files_of_trainers_are_loaded() -> None:
    assert problem_of(LinearPolicy().onnx()) == ""
    published = list((Path(__file__).parent / "data").rglob("policy.onnx"))
    assert published
    for file in published:
        assert problem_of(file.read_bytes()) == ""
