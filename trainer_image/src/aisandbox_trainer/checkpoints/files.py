"""What a checkpoint holds, and how a learner becomes the one it was.

Owns the files of a checkpoint's folder and the boundary: the last moment at which a learner's state was whole. Only
trainers read checkpoints; they hold pickles. Must not know when to save or where the folder goes.

While PPO and A2C collect a rollout only counters, statistics, generators and episodes change, and the weights do not:
a boundary keeps copies of those few, so that a learner can go back to it at any time for almost nothing. DQN learns
between steps and is whole between any two rollouts of a few steps, so it needs none.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from aisandbox_crds.codec import spec_to_json
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_model_store import CHECKPOINT_ZIP
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from aisandbox_trainer.checkpoints import replay_file
from aisandbox_trainer.checkpoints.compatibility import load_pickle
from aisandbox_trainer.checkpoints.episodes import Episodes, NotStorable
from aisandbox_trainer.checkpoints.random_state import RandomState

REPLAY_BUFFER = "replay_buffer.bin"
NORMALIZATION = "vecnormalize.pkl"
STATE = "state.pkl"
SPEC = "trainingrun_spec.json"

log = structlog.get_logger(__name__)

_STATISTICS = ("obs_rms", "ret_rms", "returns")


@dataclass(frozen=True, slots=True)
class Boundary:
    """The part of a learner's state that changes while it collects experience.

    ``ended`` are the last episodes that have ended; without ``episodes`` the environments cannot go back.
    """

    timesteps: int
    episode_number: int
    ended: tuple[Any, ...]
    successes: tuple[Any, ...]
    random: RandomState
    statistics: dict[str, Any] | None
    episodes: Episodes | None = None

    @classmethod
    def capture(cls, model: BaseAlgorithm, episodes: Episodes | None = None) -> Boundary:
        """The state now; ``episodes`` are those in progress now, if they are kept."""
        normalize = model.get_vec_normalize_env()
        return cls(
            timesteps=model.num_timesteps,
            episode_number=model._episode_num,
            ended=tuple(model.ep_info_buffer or ()),
            successes=tuple(model.ep_success_buffer or ()),
            random=RandomState.capture(model.action_space, model.get_env()),
            statistics=None if normalize is None else _statistics(normalize),
            episodes=episodes,
        )

    def restore(self, model: BaseAlgorithm, *, random: bool = True) -> None:
        """Sets the learner back. Environments that cannot go back must be reset before it goes on; SB3 is told so.

        ``random`` False leaves the generators where they are.
        """
        moved = model.num_timesteps > self.timesteps
        model.num_timesteps = self.timesteps
        model._episode_num = self.episode_number
        model.ep_info_buffer = deque(self.ended, maxlen=model._stats_window_size)
        model.ep_success_buffer = deque(self.successes, maxlen=model._stats_window_size)
        if (moved or self.episodes is not None) and not self._episodes_go_on(model):
            model._last_obs = None
        if random:
            self.random.restore(model.action_space, model.get_env())
        normalize = model.get_vec_normalize_env()
        if normalize is not None and self.statistics is not None:
            for name, value in self.statistics.items():
                setattr(normalize, name, copy.deepcopy(value))

    def _episodes_go_on(self, model: BaseAlgorithm) -> bool:
        """Puts the episodes back if they were kept and can be: what was learned is worth saving without them too."""
        if self.episodes is None:
            return False
        try:
            self.episodes.restore(model)
        except NotStorable as error:
            log.warning("episodes begin anew", reason=str(error))
            return False
        return True


def _statistics(normalize: VecNormalize) -> dict[str, Any]:
    """Copies of what it has gathered; without norm_obs it has no obs_rms, and asking it would ask what it wraps."""
    return {name: copy.deepcopy(value) for name, value in vars(normalize).items() if name in _STATISTICS}


@dataclass(frozen=True, slots=True)
class Ratings:
    """What evaluations have shown so far."""

    best_reward_mean: float | None = None
    last_reward_mean: float | None = None
    last_timesteps: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What is not in SB3's own zip.

    ``saved_at`` are the timesteps when last all was saved that was due: at a stop, something may be due still. Without
    ``episodes`` new ones are begun, for the reason ``why_anew``.
    """

    random: RandomState
    ratings: Ratings = field(default_factory=Ratings)
    saved_at: int = 0
    episodes: Episodes | None = None
    why_anew: str = ""

    @classmethod
    def capture(cls, model: BaseAlgorithm, ratings: Ratings, saved_at: int) -> State:
        """The state now."""
        random = RandomState.capture(model.action_space, model.get_env())
        try:
            return cls(random, ratings, saved_at, Episodes.capture(model))
        except NotStorable as error:
            return cls(random, ratings, saved_at, None, str(error))


def save(folder: Path, model: BaseAlgorithm, spec: TrainingRunSpec, state: State) -> None:
    """Writes every file of a checkpoint into ``folder``. Raises OSError."""
    try:
        _save(folder, model, spec, state)
    except RuntimeError as error:
        # torch's writer, closed after a write has failed, says only that it is not where it ought to be.
        if (hidden := _disk_error(error)) is not None:
            raise OSError(hidden.errno, hidden.strerror, hidden.filename) from error
        raise


def _disk_error(error: BaseException | None) -> OSError | None:
    """The error of the disk that led to ``error``, if one did."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _save(folder: Path, model: BaseAlgorithm, spec: TrainingRunSpec, state: State) -> None:
    # The last observations belong to the episodes.
    model.save(folder / CHECKPOINT_ZIP, exclude=["_last_obs", "_last_original_obs", "_last_episode_starts"])
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        normalize.save(str(folder / NORMALIZATION))
    if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        replay_file.save(model, model.replay_buffer, folder / REPLAY_BUFFER)
    (folder / STATE).write_bytes(pickle.dumps(state))
    (folder / SPEC).write_text(json.dumps(spec_to_json(spec), indent=1))


def load(folder: Path, algorithm: type[BaseAlgorithm], env: Any, device: str) -> tuple[BaseAlgorithm, State]:
    """The learner as it was saved, on ``env``, which carries the stored normalisation already.

    The returned state has episodes if they go on, and none if they begin anew. Loading reseeds every generator;
    :meth:`RandomState.restore` with the returned state is to be called last.
    """
    model = algorithm.load(folder / CHECKPOINT_ZIP, env=env, device=device)
    model._last_obs = None
    model._last_original_obs = None
    model._last_episode_starts = None
    if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        replay_file.load(model, model.replay_buffer, folder / REPLAY_BUFFER)
    state: State = load_pickle((folder / STATE).read_bytes())
    state = _go_on(model, state)
    if state.episodes is None:
        break_off_episodes(model)
    return model, state


def _go_on(model: BaseAlgorithm, state: State) -> State:
    try:
        if state.episodes is not None:
            state.episodes.restore(model)
    except NotStorable as error:
        log.warning("episodes begin anew", reason=str(error))
        return replace(state, episodes=None, why_anew=str(error))
    return state


def break_off_episodes(model: BaseAlgorithm) -> None:
    """Marks the last stored steps as the last of their episodes; to be called when environments are reset.

    Else SB3 goes on over the seam: n-step returns add up the next episode's rewards, and a buffer that stores each
    observation once takes the next episode's first one for the state after the last step. That state is lost, so such
    a buffer, which knows no time limits either, gets an end; n-step returns are cut as by a time limit.
    """
    buffer = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
    if buffer is None or buffer.size() == 0:
        return
    last = buffer.pos - 1  # -1 is the last place of a full buffer
    if isinstance(buffer, NStepReplayBuffer):
        buffer.timeouts[last] = np.logical_or(buffer.timeouts[last], buffer.dones[last] == 0)
    elif buffer.optimize_memory_usage:
        buffer.dones[last] = 1
