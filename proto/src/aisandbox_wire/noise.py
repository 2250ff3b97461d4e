"""The noise that turns the mode of a policy's distribution into a sample: values for the ONNX input "noise".

Owns the distributions of NoiseKind in policy_trainer.proto. Must not know models or the runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from numpy.typing import NDArray

NOISE_KINDS = (
    pb.NOISE_KIND_NORMAL,
    pb.NOISE_KIND_GUMBEL,
    pb.NOISE_KIND_LOGISTIC,
    pb.NOISE_KIND_EPSILON_GREEDY,
)
_CERTAIN = np.float32(1e30)
"""Added to the score of one action, it is chosen whatever the other scores are."""


def draw_noise(
    random: np.random.Generator, kind: pb.NoiseKind.ValueType, count: int, size: int, epsilon: float
) -> NDArray[Any]:
    """Return noise for ``count`` observations, float32 [count, size].

    ``kind``, ``size`` and ``epsilon`` are noise_kind, noise_size and epsilon of DescribeModelResponse; ``epsilon`` is
    used only for NOISE_KIND_EPSILON_GREEDY.
    """
    shape = (count, size)
    if kind == pb.NOISE_KIND_NORMAL:
        return random.standard_normal(shape, np.float32)
    if kind == pb.NOISE_KIND_GUMBEL:
        return random.gumbel(size=shape).astype(np.float32)
    if kind == pb.NOISE_KIND_LOGISTIC:
        return random.logistic(size=shape).astype(np.float32)
    noise = np.zeros(shape, np.float32)
    exploring = np.flatnonzero(random.random(count) < epsilon)
    noise[exploring, random.integers(0, size, exploring.size)] = _CERTAIN
    return noise
