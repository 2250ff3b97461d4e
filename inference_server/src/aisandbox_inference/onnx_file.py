"""Whether an ONNX file is of the kind that trainers write, looked at before ONNX Runtime loads it.

The code of a run can put any file in its folder. A graph may name other files of this machine as its weights, and may
have loops, which never end or fill the memory. So a file is loaded only if its operators are those of the exporter and
all that it has is in the file. Must not know the runtime.

Source of the numbers of fields: onnx/onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator

from aisandbox_wire import read_fields
from google.protobuf.message import DecodeError

OPERATORS = frozenset((
    "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "AveragePool", "BatchNormalization",
    "Cast", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Cos", "CumSum",
    "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GRU",
    "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LSTM", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod",
    "Mul", "Neg", "Not", "OneHot", "Or", "Pad", "Pow", "PRelu", "Reciprocal", "ReduceL2", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "RNN", "Round",
    "ScatterElements", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Slice", "Softmax", "Softplus",
    "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "TopK", "Transpose",
    "Unsqueeze", "Where", "Xor",
))  # fmt: skip
"""Of the domain ai.onnx: those of networks and distributions. None has a graph inside, reads a file or is random."""
MOST_NODES = 10_000

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


class _Refused(ValueError):
    """The file is of another kind."""


def problem_of(onnx: bytes) -> str:
    """Why the file is not loaded, as a phrase after "it"; empty if it may be."""
    try:
        _check_model(memoryview(onnx))
    except _Refused as refused:
        return str(refused)
    return ""


def _check_model(model: memoryview) -> None:
    nodes, has_graph = 0, False
    for number, value in _fields(model):
        if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise _Refused("has functions of its own")
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            has_graph = True
            for inner, content in _fields(value):
                if inner == _GRAPH_SPARSE:
                    raise _Refused("has sparse tensors")
                if inner == _GRAPH_INITIALIZER:
                    _check_tensor(content)
                elif inner == _GRAPH_NODE:
                    nodes += 1
                    if nodes > MOST_NODES:
                        raise _Refused(f"has more than {MOST_NODES:,} nodes")
                    _check_node(content)
    if not has_graph:
        raise _Refused("is not an ONNX file")


def _check_node(node: memoryview | int) -> None:
    for number, value in _fields(node):
        if number == _NODE_OPERATOR and (name := _text(value)) not in OPERATORS:
            raise _Refused(f"has the operator {name[:100]!r}, which no trainer writes")
        if number == _NODE_DOMAIN and _text(value) not in ("", "ai.onnx"):
            raise _Refused(f"has an operator of the domain {_text(value)[:100]!r}, which no trainer writes")
        if number == _NODE_ATTRIBUTE:
            for inner, content in _fields(value):
                if inner in _ATTRIBUTE_GRAPHS:
                    raise _Refused("has a graph inside an operator")
                if inner in _ATTRIBUTE_SPARSE:
                    raise _Refused("has sparse tensors")
                if inner in _ATTRIBUTE_TENSORS:
                    _check_tensor(content)


def _check_tensor(tensor: memoryview | int) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise _Refused("has weights in another file")


def _text(value: memoryview | int) -> str:
    return bytes(value).decode(errors="replace") if isinstance(value, memoryview) else ""


def _fields(message: memoryview | int) -> Iterator[tuple[int, memoryview | int]]:
    """The number and the content of each field: bytes, or the number that it is."""
    if isinstance(message, int):
        raise _Refused("is not an ONNX file")
    try:
        for number, _, value in read_fields(message):
            yield number, value
    except DecodeError:
        raise _Refused("is not an ONNX file") from None
