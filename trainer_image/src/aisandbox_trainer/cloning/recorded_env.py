"""Recorded episodes as an environment that plays them, and what its observations are behind the wrappers of a run.

So stacked frames, statistics and transposed images are those that training makes. Must not know algorithms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from aisandbox_trainer.environments.space_adapter import SpaceAdapter

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationFile, Demonstrations

Array = NDArray[Any]
ROWS_BETWEEN_CHECKS = 256


class RecordedEnv(VecEnv):
    """One environment that plays all recorded episodes, in their order, whatever it is told to do."""

    def __init__(self, file: DemonstrationFile, recorded: Demonstrations, adapter: SpaceAdapter) -> None:
        self._adapter = adapter
        self._recorded = recorded
        if isinstance(adapter.inner_observation_space, spaces.Dict):
            keys = [leaf.key for leaf in file.spec.observation_leaves]
            inner: Any = dict(zip(keys, recorded.observations, strict=True))
        else:
            (inner,) = recorded.observations
        self._observations = adapter.observation(inner)
        self._row = 0
        super().__init__(1, adapter.observation_space, adapter.action_space)

    def reset(self) -> Any:
        """The first observation of the first episode."""
        self._row = 0
        return self._observation(0)

    def step_async(self, actions: Array) -> None:
        """The actions are not looked at."""

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        """The next row; after the last episode, the first one again."""
        row, recorded = self._row, self._recorded
        self._row += 1
        done = bool(recorded.last[self._row])
        infos: list[dict[str, Any]] = [{}]
        if done:
            final = self._observation(self._row)
            truncated = bool(recorded.truncated[row] and not recorded.terminated[row])
            infos = [{"terminal_observation": first_of(final), "TimeLimit.truncated": truncated}]
            self._row = (self._row + 1) % len(recorded.last)
        rewards = recorded.rewards[row : row + 1].copy()
        return self._observation(self._row), rewards, np.array([done]), infos

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The adapter and the render mode. Raises AttributeError for others."""
        known = {"space_adapter": self._adapter, "render_mode": None}
        if attr_name not in known:
            raise AttributeError(attr_name)
        return [known[attr_name]]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible. Raises AttributeError."""
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not possible. Raises AttributeError."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Never."""
        return [False]

    def _observation(self, row: int) -> Any:
        return copied(rows_of(self._observations, slice(row, row + 1)))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy would have seen, a row for each of a file's.

    ``observations``: arrays [rows, ...], or a dict of them: as a replay buffer stores them if ``normalize`` is given,
    which then makes of them what the policy takes; else as the policy takes them. ``rewards``: float32 [rows], as the
    simulator gave them. ``scaled_rewards``: as the policy learns from them.
    """

    observations: Any
    rewards: Array
    scaled_rewards: Array
    normalize: VecNormalize | None

    def for_policy(self, rows: Array) -> Any:
        """The observations of some rows as the policy takes them."""
        taken = rows_of(self.observations, rows)
        return taken if self.normalize is None else self.normalize.normalize_obs(taken)


def learn_statistics(env: VecEnv, rows: int, check: Callable[[], None]) -> VecNormalize | None:
    """Plays the episodes once for the statistics of the VecNormalize around them; None if there is none.

    ``rows``: of the file. ``check`` is called from time to time, and may raise.
    """
    normalize = unwrap_vec_normalize(env)
    if normalize is not None:
        normalize.training = True
        for _ in _plays(env, rows, check):
            pass
        normalize.training = False
    return normalize


def look_at(env: VecEnv, recorded: Demonstrations, *, original: bool, check: Callable[[], None]) -> Seen:
    """Plays the episodes once and keeps what is seen.

    ``original``: the observations before they are normalised, for a replay buffer.
    """
    rows = len(recorded.last)
    normalize = unwrap_vec_normalize(env)
    if normalize is not None:
        normalize.training = False
    kept_by = normalize if original else None
    scaled = np.zeros(rows, np.float32)
    kept: Any = None
    row = 0
    for observation, reward, terminal in _plays(env, rows, check):
        if reward is not None:
            scaled[row] = reward
            row += 1
        if terminal is not None:  # the last row of an episode: what comes with it begins the next one
            _keep(kept, row, terminal if kept_by is None else kept_by.unnormalize_obs(terminal))
            row += 1
        now = observation if kept_by is None else kept_by.get_original_obs()
        if kept is None:
            kept = _room_for(now, rows)
        if row < rows:
            _keep(kept, row, first_of(now))
    return Seen(kept, recorded.rewards, scaled, kept_by)


def _plays(env: VecEnv, rows: int, check: Callable[[], None]) -> Any:
    """Each observation with the reward before it, and the last observation of an episode that has ended with it."""
    actions = np.zeros((1, *(env.action_space.shape or ())), env.action_space.dtype)
    yield env.reset(), None, None
    row = 0
    while row < rows:
        if row % ROWS_BETWEEN_CHECKS == 0:
            check()
        observation, rewards, dones, infos = env.step(actions)
        terminal = infos[0]["terminal_observation"] if dones[0] else None
        row += 1 if terminal is None else 2
        yield observation, rewards[0], terminal


def first_of(observations: Any) -> Any:
    """The first of a batch."""
    return {key: each[0] for key, each in observations.items()} if isinstance(observations, dict) else observations[0]


def rows_of(observations: Any, rows: Any) -> Any:
    """Some rows, in a dict those of each entry."""
    if isinstance(observations, dict):
        return {key: each[rows] for key, each in observations.items()}
    return observations[rows]


def copied(observations: Any) -> Any:
    """The same in arrays of their own."""
    if isinstance(observations, dict):
        return {key: np.array(each) for key, each in observations.items()}
    return np.array(observations)


def _room_for(observation: Any, rows: int) -> Any:
    if isinstance(observation, dict):
        return {key: np.empty((rows, *each.shape[1:]), each.dtype) for key, each in observation.items()}
    return np.empty((rows, *observation.shape[1:]), observation.dtype)


def _keep(kept: Any, row: int, observation: Any) -> None:
    if isinstance(kept, dict):
        for key, each in kept.items():
            each[row] = observation[key]
    else:
        kept[row] = observation
