"""Golden rows: observations, noise and the actions torch chose, which every reader of a published model replays.

Owns which rows are worth it and their JSON form. Must not know ONNX or the training loop.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from gymnasium import spaces
from numpy.typing import NDArray

from aisandbox_trainer.export.action_heads import BitsHead, BoxHead, ChoicesHead
from aisandbox_trainer.export.policy_graph import LeafInput, PolicyGraph

Array = NDArray[Any]

ROWS = 8
"""Rows without noise, and as many with."""
_CANDIDATES = 64
_MARGIN = 1e-4
"""A hundred times what float32 sums in another order differ by, relative to the numbers themselves."""
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far a reader lets a Box action be off."""
_FAR = 1e4
_SEED = 20_240


def golden_json(graph: PolicyGraph) -> bytes:
    """The rows as JSON: ``{"observations": [tensor, ...], "noise": tensor, "actions": tensor}``.

    A tensor is ``{"dtype", "shape", "data": base64}``, its dtype NumPy's name, little-endian. The observations have the
    dtypes of the graph's inputs, one tensor a leaf. Rows of which another runtime's rounding could choose another
    action (or miss RELATIVE and ABSOLUTE) are left out, so an indifferent policy may have fewer rows than 2 * ROWS, but
    at least one.
    The draw has its own fixed seed: it is the same each time, and nobody else's random numbers move.
    """
    random = np.random.default_rng(_SEED)
    leaves = [th.from_numpy(sample(leaf, 2 * _CANDIDATES, random)) for leaf in graph.leaves]
    noise = th.from_numpy(draw_noise(graph, 2 * _CANDIDATES, random))
    noise[:_CANDIDATES] = 0.0
    with th.no_grad():
        margin = margins(graph, leaves, noise)
        safe = margin > _MARGIN
        quiet = np.flatnonzero(safe[:_CANDIDATES])[:ROWS]
        noisy = np.flatnonzero(safe[_CANDIDATES:])[:ROWS] + _CANDIDATES
        best = [np.argmax(margin)] if not safe.any() else []
        rows = th.from_numpy(np.concatenate([quiet, noisy, best]).astype(np.int64))
        leaves, noise = [leaf[rows] for leaf in leaves], noise[rows]
        actions = graph(*leaves, noise)
    golden = {
        "observations": [_tensor(leaf.numpy()) for leaf in leaves],
        "noise": _tensor(noise.numpy()),
        "actions": _tensor(actions.numpy()),
    }
    return json.dumps(golden, separators=(",", ":")).encode()


def sample(leaf: LeafInput, count: int, random: np.random.Generator) -> Array:
    """``count`` observations of a leaf as the graph takes them, [count, *shape] float32 or uint8.

    From all of the space where it is bounded; otherwise around the normalisation's statistics, or around zero.
    """
    space = leaf.space
    shape = (count, *leaf.shape)
    if isinstance(space, spaces.Discrete):
        values: Array = random.integers(space.start, space.start + space.n, shape)
    elif isinstance(space, spaces.MultiDiscrete):
        values = random.integers(0, space.nvec, shape)
    elif isinstance(space, spaces.Box):
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        near = leaf.raw(random.standard_normal((count, *leaf.policy_shape)))
        bounded = (low > -_FAR) & (high < _FAR)
        uniform = random.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 1.0), shape)
        values = np.clip(np.where(bounded & (leaf.clip == 0), uniform, near), low, high)
        if np.issubdtype(np.dtype(space.dtype), np.integer):
            values = np.round(values)
    else:
        values = random.integers(0, 2, shape)
    return values.astype(np.uint8 if leaf.dtype == th.uint8 else np.float32)


def draw_noise(graph: PolicyGraph, count: int, random: np.random.Generator) -> Array:
    """Noise as ``noise_kind`` says, float32 [count, noise_size]; epsilon-greedy at random in every second row."""
    kind, size = graph.noise.kind, graph.noise.size
    if kind == pb.NOISE_KIND_NORMAL:
        noise: Array = random.standard_normal((count, size))
    elif kind == pb.NOISE_KIND_GUMBEL:
        noise = random.gumbel(size=(count, size))
    elif kind == pb.NOISE_KIND_LOGISTIC:
        noise = random.logistic(size=(count, size))
    else:
        noise = np.zeros((count, size))
        noise[np.arange(0, count, 2), random.integers(0, size, (count + 1) // 2)] = 1e30
    return noise.astype(np.float32)


def margins(graph: PolicyGraph, leaves: Sequence[th.Tensor], noise: th.Tensor) -> Array:
    """How far the scores may be off, relative to their size, before a reader would see another action. Shape [N]."""
    head = graph.head
    if isinstance(head, BoxHead):
        extent = np.maximum(np.abs(head.low.numpy()), np.abs(head.high.numpy()))
        actions = graph(*leaves, noise).flatten(1).numpy()
        return np.asarray(((RELATIVE * np.abs(actions) + ABSOLUTE) / (extent + ABSOLUTE)).min(axis=1))
    _, scores = graph.scores(leaves)
    noisy = (scores + noise).numpy()
    size = 1 + np.abs(scores.numpy()).max(axis=1)
    if isinstance(head, BitsHead):
        return np.asarray(np.abs(noisy).min(axis=1) / size)
    counts = head.counts if isinstance(head, ChoicesHead) else [noisy.shape[1]]
    edges = [0, *itertools.accumulate(counts)]
    gaps = [_gap(noisy[:, low:high]) for low, high in itertools.pairwise(edges)]
    return np.asarray(np.min(gaps, axis=0) / size)


def _gap(scores: Array) -> Array:
    if scores.shape[1] == 1:
        return np.full(len(scores), np.inf)
    best = np.sort(scores, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _tensor(array: Array) -> dict[str, Any]:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": base64.b64encode(little.tobytes()).decode()}
