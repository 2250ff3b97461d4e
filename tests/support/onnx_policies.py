"""Small ONNX policies that keep the contract of DescribeModelResponse, made without torch.

A policy is linear: scores = W x + b over all numbers of the observation, then the head of its action space. The golden
actions come from NumPy, not from the runtime under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_model_store import Published, RunStore
from aisandbox_model_store.served_model import (
    GOLDEN_FILE,
    METADATA_FILE,
    POLICY_FILE,
    GoldenExamples,
    StoredTensor,
    observation_input,
)
from aisandbox_wire.spaces import Leaf, leaves
from google.protobuf import json_format
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

GOLDEN_ROWS = 8


def box(
    *shape: int,
    low: float = -1.0,
    high: float = 1.0,
    dtype: tensor_pb2.DataType.ValueType = tensor_pb2.DATA_TYPE_FLOAT32,
) -> tensor_pb2.Space:
    return tensor_pb2.Space(box=tensor_pb2.Box(dtype=dtype, shape=shape, low=[low], high=[high]))


def image(*shape: int) -> tensor_pb2.Space:
    return box(*shape, low=0, high=255, dtype=tensor_pb2.DATA_TYPE_UINT8)


def discrete(n: int, start: int = 0) -> tensor_pb2.Space:
    return tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=n, start=start))


def multi_discrete(*n: int) -> tensor_pb2.Space:
    return tensor_pb2.Space(multi_discrete=tensor_pb2.MultiDiscrete(n=n))


def multi_binary(n: int) -> tensor_pb2.Space:
    return tensor_pb2.Space(multi_binary=tensor_pb2.MultiBinary(n=n))


def dictionary(**spaces: tensor_pb2.Space) -> tensor_pb2.Space:
    entries = [tensor_pb2.DictEntry(key=key, space=space) for key, space in spaces.items()]
    return tensor_pb2.Space(dict=tensor_pb2.DictSpace(entries=entries))


class LinearPolicy:
    """The policy in NumPy and as the files of a published model."""

    def __init__(
        self,
        observation: tensor_pb2.Space | None = None,
        action: tensor_pb2.Space | None = None,
        *,
        bias: Sequence[float] | None = None,
        seed: int = 0,
        epsilon: float | None = None,
        timesteps: int = 0,
        padding: int = 0,
        busy: int = 0,
        masked: bool = False,
    ) -> None:
        """``bias`` makes the scores constant; ``padding`` is a weight of so many bytes, ``busy`` a matrix product.

        ``masked``, for Discrete and MultiDiscrete: it takes action masks.
        """
        self.observation_space = observation or box(4)
        self.action_space = action or discrete(2)
        self.leaves = leaves(self.observation_space)
        (self.head,) = leaves(self.action_space)
        self.counts = _counts(self.head)
        self.size = sum(self.counts)
        numbers = sum(leaf.size for leaf in self.leaves)
        random = np.random.default_rng(seed)
        self.weights = random.normal(size=(numbers, self.size)).astype(np.float32)
        self.bias = np.zeros(self.size, np.float32)
        if bias is not None:
            self.weights[:] = 0
            self.bias[:] = bias
        self.epsilon = epsilon
        self.timesteps = timesteps
        self.padding = padding
        self.busy = busy
        self.masked = masked
        self.random = random

    @property
    def state(self) -> dict[str, tuple[int, ...]]:
        """The tensors of a recurrent policy."""
        return {}

    def scores(self, observations: Sequence[Array]) -> Array:
        flat = np.concatenate([leaf.reshape(len(leaf), -1).astype(np.float32) for leaf in observations], axis=1)
        return np.asarray(flat @ self.weights + self.bias)

    def act(self, observations: Sequence[Array], noise: Array | float = 0.0, masks: Array | None = None) -> Array:
        noisy = self.scores(observations) + noise
        if masks is not None:
            noisy = np.where(masks, noisy, -1e30)
        if self.head.kind == "box":
            assert self.head.low is not None
            assert self.head.high is not None
            shaped = noisy.reshape(len(noisy), *self.head.shape)
            return np.clip(shaped, self.head.low, self.head.high).astype(np.float32)
        if self.head.kind == "multi_binary":
            return (noisy > 0).astype(np.int64)
        parts = np.split(noisy, np.cumsum(self.counts)[:-1], axis=1)
        chosen = np.stack([part.argmax(axis=1) for part in parts], axis=1).astype(np.int64)
        return chosen if self.head.kind == "multi_discrete" else chosen[:, 0] + self.head.start

    def sample(self, count: int) -> list[Array]:
        """Observations as the inputs take them, each [count, *shape] float32 or uint8."""
        return [_sample(leaf, count, self.random) for leaf in self.leaves]

    def files(self) -> dict[str, bytes]:
        return {POLICY_FILE: self.onnx(), METADATA_FILE: self.metadata(), GOLDEN_FILE: self.golden()}

    def metadata(self) -> bytes:
        kinds = {"box": pb.NOISE_KIND_NORMAL, "multi_binary": pb.NOISE_KIND_LOGISTIC}
        kind = kinds.get(self.head.kind, pb.NOISE_KIND_GUMBEL)
        description = pb.DescribeModelResponse(
            model_timesteps=self.timesteps,
            algorithm=pb.ALGORITHM_PPO if self.epsilon is None else pb.ALGORITHM_DQN,
            observation_space=self.observation_space,
            action_space=self.action_space,
            frame_stack=1,
            noise_kind=kind if self.epsilon is None else pb.NOISE_KIND_EPSILON_GREEDY,
            noise_size=self.size,
            epsilon=self.epsilon or 0.0,
            mask_size=self.size if self.masked else 0,
            state=[pb.StateTensor(name=name, shape=shape) for name, shape in self.state.items()],
        )
        return json_format.MessageToJson(description).encode()

    def golden(self) -> bytes:
        observations = self.sample(2 * GOLDEN_ROWS)
        noise = self.random.normal(size=(2 * GOLDEN_ROWS, self.size)).astype(np.float32)
        noise[:GOLDEN_ROWS] = 0
        masks = np.ones((2 * GOLDEN_ROWS, self.size), np.uint8) if self.masked else None
        if masks is not None:
            masks[::2, 0] = 0
        return GoldenExamples(
            observations=tuple(stored(leaf) for leaf in observations),
            noise=stored(noise),
            actions=stored(self.act(observations, noise, masks)),
            action_mask=None if masks is None else stored(masks),
        ).to_bytes()

    def onnx(self) -> bytes:
        nodes, inputs, parts, initializers = [], [], [], [constant("W", self.weights), constant("b", self.bias)]
        for index, leaf in enumerate(self.leaves):
            name = observation_input(leaf.key)
            element = TensorProto.UINT8 if leaf.dtype == np.uint8 else TensorProto.FLOAT
            inputs.append(helper.make_tensor_value_info(name, element, ["N", *leaf.shape]))
            initializers.append(constant(f"shape{index}", np.array([-1, leaf.size], np.int64)))
            nodes.append(helper.make_node("Cast", [name], [f"float{index}"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Reshape", [f"float{index}", f"shape{index}"], [f"flat{index}"]))
            parts.append(f"flat{index}")
        nodes.append(helper.make_node("Concat", parts, ["x"], axis=1))
        nodes.append(helper.make_node("Gemm", ["x", "W", "b"], ["linear"]))
        linear = "linear"
        if self.padding:
            initializers.append(constant("padding", np.zeros(self.padding // 4, np.float32)))
            nodes.append(helper.make_node("ReduceSum", ["padding"], ["nothing"], keepdims=0))
            linear = _add_zero(nodes, linear, "nothing")
        if self.busy:
            linear = _add_zero(nodes, linear, _busy(nodes, initializers, self.busy))
        element = TensorProto.FLOAT if self.head.kind == "box" else TensorProto.INT64
        outputs = [helper.make_tensor_value_info("action", element, ["N", *self.head.shape])]
        linear = self._memory_nodes(linear, nodes, inputs, outputs, initializers)
        nodes.append(helper.make_node("Add", [linear, "noise"], ["noisy"]))
        initializers.append(constant("noise", np.zeros((1, self.size), np.float32)))
        inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["M", self.size]))
        if self.masked:
            inputs.append(helper.make_tensor_value_info("action_mask", TensorProto.UINT8, ["K", self.size]))
            initializers.append(constant("action_mask", np.ones((1, self.size), np.uint8)))
            initializers.append(constant("lowest", np.full((), -1e30, np.float32)))
            nodes[-1].output[0] = "unmasked"
            nodes.append(helper.make_node("Cast", ["action_mask"], ["allowed"], to=TensorProto.BOOL))
            nodes.append(helper.make_node("Where", ["allowed", "unmasked", "lowest"], ["noisy"]))
        nodes += self._head_nodes(initializers)
        graph = helper.make_graph(nodes, "policy", inputs, outputs, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())

    def _memory_nodes(
        self, linear: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]
    ) -> str:
        """The name of the scores, after what a recurrent policy adds."""
        del nodes, inputs, outputs, initializers
        return linear

    def _head_nodes(self, initializers: list[Any]) -> list[Any]:
        head = self.head
        if head.kind == "box":
            assert head.low is not None
            assert head.high is not None
            initializers += [constant("low", np.array(head.low)), constant("high", np.array(head.high))]
            initializers.append(constant("shape", np.array([-1, *head.shape], np.int64)))
            return [
                helper.make_node("Reshape", ["noisy", "shape"], ["shaped"]),
                helper.make_node("Max", ["shaped", "low"], ["above"]),
                helper.make_node("Min", ["above", "high"], ["action"]),
            ]
        if head.kind == "multi_binary":
            initializers.append(constant("zero", np.zeros((), np.float32)))
            return [
                helper.make_node("Greater", ["noisy", "zero"], ["bits"]),
                helper.make_node("Cast", ["bits"], ["action"], to=TensorProto.INT64),
            ]
        if head.kind == "discrete":
            initializers.append(constant("start", np.array(head.start, np.int64)))
            return [
                helper.make_node("ArgMax", ["noisy"], ["index"], axis=1, keepdims=0),
                helper.make_node("Add", ["index", "start"], ["action"]),
            ]
        parts = [f"part{i}" for i in range(len(self.counts))]
        initializers.append(constant("counts", np.array(self.counts, np.int64)))
        nodes = [helper.make_node("Split", ["noisy", "counts"], parts, axis=1)]
        nodes += [helper.make_node("ArgMax", [part], [f"{part}_index"], axis=1, keepdims=1) for part in parts]
        nodes.append(helper.make_node("Concat", [f"{part}_index" for part in parts], ["action"], axis=1))
        return nodes


def stored(array: Array) -> StoredTensor:
    return StoredTensor(array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes())


def _counts(head: Leaf) -> list[int]:
    if head.kind == "discrete":
        return [head.n]
    if head.nvec is not None:
        return [int(n) for n in head.nvec]
    return [head.size]


def _sample(leaf: Leaf, count: int, random: np.random.Generator) -> Array:
    shape = (count, *leaf.shape)
    if leaf.kind == "discrete":
        return random.integers(leaf.start, leaf.start + leaf.n, shape).astype(np.float32)
    if leaf.nvec is not None:
        return random.integers(0, leaf.nvec, shape).astype(np.float32)
    if leaf.kind == "multi_binary":
        return random.integers(0, 2, shape).astype(np.float32)
    if leaf.dtype == np.uint8:
        return random.integers(0, 256, shape).astype(np.uint8)
    return random.normal(size=shape).astype(np.float32)


def constant(name: str, array: Array) -> Any:
    return numpy_helper.from_array(array, name)


def _add_zero(nodes: list[Any], linear: str, zero: str) -> str:
    nodes.append(helper.make_node("Add", [linear, zero], [f"{linear}_and_{zero}"]))
    return f"{linear}_and_{zero}"


def _busy(nodes: list[Any], initializers: list[Any], size: int) -> str:
    """A product of two matrices of zeros that the runtime cannot compute in advance."""
    initializers.append(constant("square", np.zeros((size, size), np.float32)))
    nodes.append(helper.make_node("ReduceSum", ["linear"], ["total"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["total", "square"], ["left"]))
    nodes.append(helper.make_node("MatMul", ["left", "square"], ["product"]))
    nodes.append(helper.make_node("ReduceSum", ["product"], ["done"], keepdims=0))
    return "done"


def publish(models_dir: Path, policy: LinearPolicy, run: str = "r", step: int = 100) -> Published:
    """Publishes the policy as the latest model of the run."""
    writer = RunStore(models_dir).run(run).claim(1)
    published = writer.publish_model(step, policy.files())
    writer.point("latest", published)
    return published
