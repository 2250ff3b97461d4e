"""Reads a simulator's replies as arrays, and checks everything in them.

On the path of every step: all that does not change within a session is computed once. Must not know gRPC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_wire import Array, BatchLeaf, InvalidValue, all_finite

from aisandbox_environment.simulation import EpisodeMetrics, ResetResult, StepResult
from aisandbox_environment.spec import Spec

_FLOAT32 = np.dtype("<f4")
_OTHER_BYTES = 16 * 1024
"""Of one environment: its reward, its flags and the metrics of its episode."""
_FRAMING_BYTES = 1024 * 1024
"""Tags, lengths and shapes of up to 1,024 leaves, or the text of a refusal."""
_BOOL = np.dtype("?")


class ReplyReader:
    """Reads the replies of a session with ``environments`` environments of ``spec``.

    Every method raises WireError, naming the field and the rule, for a reply that breaks the contract. The arrays are
    read-only views on the reply's bytes.
    """

    def __init__(self, spec: Spec, environments: int) -> None:
        self._spec = spec
        self._n = environments
        self._mask_bytes = environments * spec.mask_width
        self._mask_layout = spec.mask_layout
        values = environments * sum(leaf.size * leaf.dtype.itemsize for leaf in spec.observation_leaves)
        self.largest_reply = 2 * values + self._mask_bytes + environments * _OTHER_BYTES + _FRAMING_BYTES
        """In bytes: with the observations of every environment and the last ones of their episodes."""
        self._no_flags = bytes(environments)
        self._no_ends = np.frombuffer(self._no_flags, _BOOL)
        self._leaves = [
            (i, BatchLeaf(leaf, environments), f"observations[{i}]") for i, leaf in enumerate(spec.observation_leaves)
        ]

    def reset(self, reply: pb.ResetReply) -> ResetResult:
        """The first observations of every environment."""
        return ResetResult(self._read(reply.observations), self._masks(reply.action_masks))

    def step(self, reply: pb.StepReply) -> StepResult:
        """The result of a step."""
        n = self._n
        observations = self._read(reply.observations)
        data = reply.rewards
        if len(data) != 4 * n:
            raise InvalidValue("step.rewards", f"has {len(data)} bytes; {n} float32 rewards need {4 * n}")
        rewards = np.frombuffer(data, _FLOAT32)
        if not all_finite(rewards):
            worst = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise InvalidValue("step.rewards", f"element [{worst}] is {rewards[worst]}, which is not finite")
        masks = self._masks(reply.action_masks)
        if reply.terminated != self._no_flags or reply.truncated != self._no_flags:
            terminated = _flags(reply.terminated, n, "step.terminated")
            truncated = _flags(reply.truncated, n, "step.truncated")
            return self._with_ends(reply, observations, rewards, terminated, truncated, masks)
        if reply.final_observations:
            raise InvalidValue("step.final_observations", "is set although no episode ended in this step")
        if reply.episode_metrics:
            raise InvalidValue("step.episode_metrics", "is set although no episode ended in this step")
        return StepResult(observations, rewards, self._no_ends, self._no_ends, action_masks=masks)

    def _with_ends(
        self,
        reply: pb.StepReply,
        observations: list[Array],
        rewards: Array,
        terminated: Array,
        truncated: Array,
        masks: Array | None,
    ) -> StepResult:
        ended = np.flatnonzero(terminated | truncated)
        leaves = self._spec.observation_leaves
        field = "step.final_observations"
        if len(reply.final_observations) != len(leaves):
            raise _wrong_count(reply.final_observations, leaves, field)
        finals = [
            BatchLeaf(leaf, len(ended)).read(tensor, f"{field}[{i}]")
            for i, (leaf, tensor) in enumerate(zip(leaves, reply.final_observations, strict=True))
        ]
        metrics = tuple(self._metrics(m, i, ended) for i, m in enumerate(reply.episode_metrics))
        return StepResult(observations, rewards, terminated, truncated, ended, finals, masks, metrics)

    def _read(self, tensors: Sequence[tensor_pb2.Tensor]) -> list[Array]:
        if len(tensors) != len(self._leaves):
            raise _wrong_count(tensors, self._leaves, "observations")
        arrays = []
        # By index, because an iteration over a field of Protobuf ends with an IndexError inside, which takes as long.
        for i, leaf, field in self._leaves:
            arrays.append(leaf.read(tensors[i], field))
        return arrays

    def _masks(self, data: bytes) -> Array | None:
        if len(data) != self._mask_bytes:
            rows = f"{self._n} rows of {self._spec.mask_width} bytes"
            raise InvalidValue("action_masks", f"has {len(data)} bytes; {rows} need {self._mask_bytes}")
        if not data:
            return None
        masks = _flags(data, len(data), "action_masks").reshape(self._n, -1)
        self._mask_layout.check(masks, "action_masks", "environment")
        return masks

    @staticmethod
    def _metrics(metrics: pb.EpisodeMetrics, index: int, ended: Array) -> EpisodeMetrics:
        field = f"step.episode_metrics[{index}]"
        if metrics.environment not in ended:
            raise InvalidValue(f"{field}.environment", f"environment {metrics.environment} has not ended an episode")
        for name, value in metrics.values.items():
            if not math.isfinite(value):
                raise InvalidValue(f"{field}.values[{name!r}]", f"{value} is not finite")
        return EpisodeMetrics(metrics.environment, dict(metrics.values))


def _wrong_count(tensors: Sequence[tensor_pb2.Tensor], leaves: Sequence[object], field: str) -> InvalidValue:
    return InvalidValue(field, f"has {len(tensors)} tensors; the observation space has {len(leaves)} leaves")


def _flags(data: bytes, n: int, field: str) -> Array:
    if len(data) != n:
        raise InvalidValue(field, f"has {len(data)} bytes; {n} environments need {n}")
    if data.translate(None, b"\x00\x01"):
        raise InvalidValue(field, "has a byte that is neither 0 nor 1")
    return np.frombuffer(data, _BOOL)
