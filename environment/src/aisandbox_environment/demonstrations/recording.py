"""Plays episodes with a policy of Python, or with one that is asked over the network, and records them.

Owns the loop, and the check that each action is possible. Must not know files, nor who chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from aisandbox_wire import Array, InvalidValue, MaskLayout, cast_exactly

from aisandbox_environment.demonstrations.episode import Episode
from aisandbox_environment.demonstrations.reader import allows, outside
from aisandbox_environment.session import EpisodeParameters, SimulatorSession
from aisandbox_environment.spec import Spec

Observation = Array | Mapping[str, Array]
"""One observation: an array, or of a Dict an array for each key."""
Policy = Callable[[Observation, Array | None], Any]
"""Chooses an action for an observation and its mask (bool [mask_width]; None without masks).

If it has a method ``begin_episode``, that is called before the first observation of each episode.
"""


class RandomPolicy:
    """Uniform over the actions that are allowed, from a seed."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self._leaf = spec.action_leaf
        self._layout = MaskLayout.of(self._leaf)
        self._random = np.random.default_rng(seed)

    def __call__(self, observation: Observation, mask: Array | None) -> Array:
        """An action."""
        leaf = self._leaf
        if leaf.low is not None and leaf.high is not None:
            if leaf.dtype.kind in "iu":
                return self._random.integers(leaf.low, leaf.high, leaf.shape, leaf.dtype.type, endpoint=True)
            drawn = self._random.uniform(leaf.low.astype(np.float64), leaf.high.astype(np.float64), leaf.shape)
            clipped: Array = np.clip(drawn.astype(leaf.dtype), leaf.low, leaf.high)
            return clipped
        allowed = np.ones(self._layout.width, bool) if mask is None else mask
        parts = np.split(allowed, np.cumsum(self._layout.counts)[:-1])
        chosen = [self._random.choice(np.flatnonzero(part)) for part in parts]
        return np.array(chosen, leaf.dtype).reshape(leaf.shape) + leaf.start


def record_episodes(
    session: SimulatorSession, policy: Policy, episodes: int, seed: int, max_steps: int = 0
) -> Iterator[Episode]:
    """Plays episodes, one after the other, in the one environment of ``session``.

    Episode i is reset with the seed ``seed + i``. ``max_steps``: an episode that has so many steps is truncated; 0: it
    ends when the environment ends it. Raises InvalidValue for an action that is impossible, naming episode and step;
    SimulatorError; what ``policy`` raises.
    """
    for number in range(episodes):
        yield play_episode(session, policy, seed + number, f"episode {number}", max_steps)


def play_episode(
    session: SimulatorSession,
    policy: Policy,
    seed: int,
    name: str,
    max_steps: int = 0,
    parameters: EpisodeParameters | None = None,
) -> Episode:
    """One episode with this seed and these parameters (None: as before); ``name`` is what errors call it.

    ``max_steps`` and errors as of :func:`record_episodes`.
    """
    spec = session.spec
    start = session.reset([seed], None if parameters is None else {0: parameters})
    observed = [[leaf[0].copy()] for leaf in start.observations]
    mask = None if start.action_masks is None else start.action_masks[0].copy()
    masks: list[Array | None] = []
    actions: list[Array] = []
    rewards: list[float] = []
    if (begin := getattr(policy, "begin_episode", None)) is not None:
        begin()
    while True:
        action = _checked(policy(_joined(spec, [rows[-1] for rows in observed]), mask), mask, spec, name, len(actions))
        step = session.step(action[None])
        actions.append(action)
        masks.append(mask)
        rewards.append(step.rewards[0])
        ended = bool(step.terminated[0] or step.truncated[0])
        for rows, leaf in zip(observed, step.final_observations if ended else step.observations, strict=True):
            rows.append(leaf[0].copy())
        mask = None if step.action_masks is None else step.action_masks[0].copy()
        cut = not ended and 0 < max_steps <= len(actions)
        if ended or cut:
            return Episode(
                seed,
                [np.stack(rows) for rows in observed],
                np.stack(actions),
                np.array(rewards, np.float32),
                bool(step.terminated[0]),
                bool(step.truncated[0]) or cut,
                np.stack(masks) if spec.action_masks else None,  # type: ignore[arg-type]
            )


def _joined(spec: Spec, leaves: list[Array]) -> Observation:
    if not spec.observation_leaves[0].key:
        return leaves[0]
    return {leaf.key: values for leaf, values in zip(spec.observation_leaves, leaves, strict=True)}


def _checked(action: Any, mask: Array | None, spec: Spec, name: str, step: int) -> Array:
    """The action with the dtype and shape of its space. Raises InvalidValue."""
    leaf, field = spec.action_leaf, f"the action of {name}, step {step}"
    array = cast_exactly(action, leaf.dtype, field)
    if array.shape != leaf.shape:
        raise InvalidValue(field, f"has shape {list(array.shape)}, expected {list(leaf.shape)}")
    if outside(leaf, array[None])[0]:
        raise InvalidValue(field, f"is {array}, outside of its space")
    if mask is not None and not allows(spec.mask_layout, leaf, mask[None], array[None])[0]:
        raise InvalidValue(field, f"is {array}, which the mask forbids")
    return array
