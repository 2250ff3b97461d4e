"""Golden examples: observations, noise, masks and the actions torch chose, which every reader of a model replays.

Owns the choice of the examples; aisandbox_model_store has their form. Must not know ONNX or the training loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store.served_model import (
    GOLDEN_ABSOLUTE_TOLERANCE,
    GOLDEN_RELATIVE_TOLERANCE,
    GoldenExamples,
    StoredTensor,
)
from aisandbox_wire import draw_noise
from gymnasium import spaces
from numpy.typing import NDArray

from aisandbox_trainer.export.action_heads import BitsHead, BoxHead, ChoicesHead
from aisandbox_trainer.export.action_masks import sample_masks
from aisandbox_trainer.export.leaf_inputs import LeafInput
from aisandbox_trainer.export.policy_graph import PolicyGraph

Array = NDArray[Any]

EXAMPLES = 8
"""Examples without noise, and as many with."""
_CANDIDATES = 64
_MARGIN = 1e-4
"""A hundred times what float32 sums in another order differ by, relative to the numbers themselves."""
_FAR = 1e4
_SEED = 20_240


def golden_examples(graph: PolicyGraph) -> GoldenExamples:
    """Up to 2 * EXAMPLES examples, half of them without noise; with masks, about half of them allow every action.

    Of a recurrent policy they are two episodes of that length. Examples for which another runtime's rounding could
    choose another action (or miss the tolerances) are left out, so a policy with equal scores may have fewer, but at
    least one. The random numbers are drawn from a generator with a fixed seed: they are the same each time, and no
    other generator is changed.
    """
    random = np.random.default_rng(_SEED)
    with th.no_grad():
        return _episodes(graph, random) if graph.state else _observations(graph, random)


def _observations(graph: PolicyGraph, random: np.random.Generator) -> GoldenExamples:
    leaves, noise, masks = _candidates(graph, random)
    margin = margins(graph, leaves, noise, masks)
    safe = margin > _MARGIN
    quiet = np.flatnonzero(safe[:_CANDIDATES])[:EXAMPLES]
    noisy = np.flatnonzero(safe[_CANDIDATES:])[:EXAMPLES] + _CANDIDATES
    best = [np.argmax(margin)] if not safe.any() else []
    rows = th.from_numpy(np.concatenate([quiet, noisy, best]).astype(np.int64))
    leaves, noise, masks = [leaf[rows] for leaf in leaves], noise[rows], [mask[rows] for mask in masks]
    return _examples(leaves, noise, masks, graph(*leaves, noise, *masks))


def _episodes(graph: PolicyGraph, random: np.random.Generator) -> GoldenExamples:
    """The longest beginnings of episodes, of many candidates, in which every observation could be an example."""
    starts = th.ones(2 * _CANDIDATES)
    state_and_starts = [*(th.zeros((2 * _CANDIDATES, *tensor.shape)) for tensor in graph.state), starts]
    steps, found = [], []
    for _ in range(EXAMPLES):
        leaves, noise, masks = _candidates(graph, random)
        actions, *state = graph(*leaves, *state_and_starts, noise, *masks)
        steps.append((*leaves, noise, actions, *masks))
        found.append(margins(graph, leaves, noise, masks, state_and_starts))
        state_and_starts = [*state, th.zeros_like(starts)]
    margin = np.array(found)
    safe_steps = np.cumprod(margin > _MARGIN, axis=0).sum(axis=0)
    rank = safe_steps + margin[0] / (1 + margin[0].max())  # the margin decides between equal lengths only
    chosen = [int(np.argmax(rank[:_CANDIDATES])), int(np.argmax(rank[_CANDIDATES:])) + _CANDIDATES]
    places = [(row, step) for row in chosen for step in range(max(int(safe_steps[row]), 1))]
    parts = [th.stack([steps[step][part][row] for row, step in places]) for part in range(len(steps[0]))]
    count = len(graph.leaves)
    noise, actions, *masks = parts[count:]
    return _examples(parts[:count], noise, masks, actions, np.array([step == 0 for _, step in places], np.float32))


def _candidates(graph: PolicyGraph, random: np.random.Generator) -> tuple[list[th.Tensor], th.Tensor, list[th.Tensor]]:
    """2 * _CANDIDATES observations, noise, which is zero for the first half, and masks, if the graph takes some."""
    leaves = [th.from_numpy(sample(leaf, 2 * _CANDIDATES, random)) for leaf in graph.leaves]
    noise = th.from_numpy(_noise(graph, 2 * _CANDIDATES, random))
    noise[:_CANDIDATES] = 0.0
    return leaves, noise, _masks(graph, 2 * _CANDIDATES, random)


def _examples(
    leaves: Sequence[th.Tensor],
    noise: th.Tensor,
    masks: Sequence[th.Tensor],
    actions: th.Tensor,
    episode_start: Array | None = None,
) -> GoldenExamples:
    return GoldenExamples(
        observations=tuple(_stored(leaf.numpy()) for leaf in leaves),
        noise=_stored(noise.numpy()),
        actions=_stored(actions.numpy()),
        action_mask=_stored(masks[0].numpy()) if masks else None,
        episode_start=_stored(episode_start) if episode_start is not None else None,
    )


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


def _noise(graph: PolicyGraph, count: int, random: np.random.Generator) -> Array:
    """Noise as the graph takes it, float32 [count, noise_size]; epsilon-greedy explores in every second row."""
    noise = draw_noise(random, graph.noise.kind, count, graph.noise.size, epsilon=1.0)
    if graph.noise.kind == pb.NOISE_KIND_EPSILON_GREEDY:
        noise[1::2] = 0.0
    return noise


def _masks(graph: PolicyGraph, count: int, random: np.random.Generator) -> list[th.Tensor]:
    """Masks as the graph takes them, of which every second one allows everything; none if it takes none."""
    if graph.mask is None:
        return []
    masks = sample_masks(graph.mask.counts, count, random)
    masks[1::2] = 1
    return [th.from_numpy(masks)]


def margins(
    graph: PolicyGraph,
    leaves: Sequence[th.Tensor],
    noise: th.Tensor,
    masks: Sequence[th.Tensor] = (),
    state_and_starts: Sequence[th.Tensor] = (),
) -> Array:
    """How far the scores may be off, relative to their size, before a reader would see another action. Shape [N].

    ``state_and_starts``: as of :meth:`PolicyGraph.scores`.
    """
    head = graph.head
    latent, scores, _ = graph.scores(leaves, state_and_starts)
    if isinstance(head, BoxHead):
        extent = np.maximum(np.abs(head.low.numpy()), np.abs(head.high.numpy()))
        actions = head(latent, scores, noise).reshape(len(noise), -1).numpy()  # a bare number has no more axes
        allowed = GOLDEN_RELATIVE_TOLERANCE * np.abs(actions) + GOLDEN_ABSOLUTE_TOLERANCE
        return np.asarray((allowed / (extent + GOLDEN_ABSOLUTE_TOLERANCE)).min(axis=1))
    size = 1 + np.abs(scores.numpy()).max(axis=1)
    noisy = ((scores if graph.mask is None else graph.mask(scores, *masks)) + noise).numpy()
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


def _stored(array: Array) -> StoredTensor:
    little_endian = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return StoredTensor(array.dtype.name, array.shape, little_endian.tobytes())
