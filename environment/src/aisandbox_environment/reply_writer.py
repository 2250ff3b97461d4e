"""Writes a simulation's results as replies: the inverse of :mod:`.reply_reader`.

On the path of every step: one message serves all steps, and only its numbers change. Must not know gRPC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_wire import Array, BatchLeaf, cast_exactly, encode_tensor

from aisandbox_environment.simulation import ResetResult, StepResult
from aisandbox_environment.spec import Spec


class ReplyWriter:
    """Writes the replies of a session with ``environments`` environments of ``spec``.

    Every method raises InvalidValue, naming the field, for a value that its dtype cannot hold, and ValueError for
    another number of leaves. Shapes are not checked: the client does that.
    """

    def __init__(self, spec: Spec, environments: int) -> None:
        self._leaves = [
            (BatchLeaf(leaf, environments), f"observations[{i}]") for i, leaf in enumerate(spec.observation_leaves)
        ]
        self._has_masks = spec.action_masks
        self._reply = pb.SimulatorReply(step=pb.StepReply(observations=self._empty()))
        self._step = self._reply.step
        self._observations = list(self._step.observations)

    def reset(self, result: ResetResult) -> bytes:
        """The reply to a reset."""
        reply = pb.ResetReply(observations=self._empty(), action_masks=_bytes(result.action_masks, np.bool_))
        self._fill(reply.observations, result.observations)
        return pb.SimulatorReply(reset=reply).SerializeToString()

    def step(self, result: StepResult) -> bytes:
        """The reply to a step."""
        step = self._step
        self._fill(self._observations, result.observations)
        step.rewards = _bytes(result.rewards, np.float32)
        step.terminated = terminated = _bytes(result.terminated, np.bool_)
        step.truncated = truncated = _bytes(result.truncated, np.bool_)
        if self._has_masks or result.action_masks is not None:
            step.action_masks = _bytes(result.action_masks, np.bool_)
        if 1 not in terminated and 1 not in truncated:
            return self._reply.SerializeToString()
        try:
            self._add_ends(result)
            return self._reply.SerializeToString()
        finally:
            step.ClearField("final_observations")
            step.ClearField("episode_metrics")

    def _add_ends(self, result: StepResult) -> None:
        """Adds what a reply has only if an episode ended."""
        self._step.final_observations.extend(
            encode_tensor(cast_exactly(array, batch.leaf.dtype, "final_observations"))
            for (batch, _), array in zip(self._leaves, result.final_observations, strict=False)
        )
        self._step.episode_metrics.extend(
            pb.EpisodeMetrics(environment=metrics.environment, values=metrics.values)
            for metrics in result.episode_metrics
        )

    def _empty(self) -> list[tensor_pb2.Tensor]:
        return [leaf.empty() for leaf, _ in self._leaves]

    def _fill(self, tensors: Iterable[tensor_pb2.Tensor], arrays: Sequence[Array]) -> None:
        for (leaf, field), tensor, array in zip(self._leaves, tensors, arrays, strict=True):
            tensor.data = leaf.to_bytes(array, field)


def _bytes(array: Array | None, dtype: type[np.generic]) -> bytes:
    if array is None:
        return b""
    return array.tobytes() if array.dtype == dtype else array.astype(dtype).tobytes()
