"""The point between two updates that training can return to.

While PPO and A2C collect a rollout only counters, statistics, generators and episodes change, and the weights do not:
a copy of those few is enough to undo a rollout that was interrupted, for almost no cost. Off-policy algorithms update
between steps and are consistent between any two rollouts of a few steps, so they need none. Must not know when to
return, nor files.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.checkpoints.episodes import Episodes
from aisandbox_trainer.checkpoints.random_state import RandomState
from aisandbox_trainer.errors import NotStorable
from aisandbox_trainer.lessons.lessons_env import plan_of
from aisandbox_trainer.lessons.plan import LessonState

log = structlog.get_logger(__name__)

_STATISTICS = ("obs_rms", "ret_rms", "returns")


@dataclass(frozen=True, slots=True)
class RollbackPoint:
    """The part of a model's state that changes while it collects experience.

    ``finished`` are SB3's records of the last finished episodes; without ``episodes`` (those in progress) the
    environments cannot return.
    """

    timesteps: int
    episode_count: int
    finished: tuple[Any, ...]
    successes: tuple[Any, ...]
    random: RandomState
    statistics: dict[str, Any] | None
    episodes: Episodes | None = None
    lessons: LessonState | None = None

    @classmethod
    def capture(cls, model: BaseAlgorithm, episodes: Episodes | None = None) -> RollbackPoint:
        """The state now; ``episodes`` are those in progress now, if they were captured."""
        normalize, plan = model.get_vec_normalize_env(), plan_of(model.get_env())
        return cls(
            timesteps=model.num_timesteps,
            episode_count=_sb3_internals.episode_count(model),
            finished=tuple(model.ep_info_buffer or ()),
            successes=tuple(model.ep_success_buffer or ()),
            random=RandomState.capture(model.action_space, model.get_env()),
            statistics=None if normalize is None else _statistics(normalize),
            episodes=episodes,
            lessons=None if plan is None else plan.state,
        )

    def restore(self, model: BaseAlgorithm, *, random: bool = True) -> None:
        """Returns the model to this point. Environments that cannot return are reset when learning starts again.

        ``random`` False leaves the generators as they are, and the draws of lessons.
        """
        moved = model.num_timesteps > self.timesteps
        model.num_timesteps = self.timesteps
        _sb3_internals.set_episode_count(model, self.episode_count)
        window = _sb3_internals.statistics_window(model)
        model.ep_info_buffer = deque(self.finished, maxlen=window)
        model.ep_success_buffer = deque(self.successes, maxlen=window)
        plan = plan_of(model.get_env())
        if plan is not None and self.lessons is not None:
            plan.restore(self.lessons if random else replace(self.lessons, drawn=plan.state.drawn))
        if (moved or self.episodes is not None) and not self._restore_episodes(model):
            _sb3_internals.reset_environments_at_next_start(model)
        if random:
            self.random.restore(model.action_space, model.get_env())
        normalize = model.get_vec_normalize_env()
        if normalize is not None and self.statistics is not None:
            for name, value in self.statistics.items():
                setattr(normalize, name, copy.deepcopy(value))

    def _restore_episodes(self, model: BaseAlgorithm) -> bool:
        """Whether the episodes continue: what was learned is worth saving without them too."""
        if self.episodes is None:
            return False
        try:
            self.episodes.restore(model)
        except NotStorable as error:
            log.warning("new episodes are started", reason=str(error))
            return False
        return True


def _statistics(normalize: VecNormalize) -> dict[str, Any]:
    """Copies of its statistics; without norm_obs it has no obs_rms, and getattr would ask the environment it wraps."""
    return {name: copy.deepcopy(value) for name, value in vars(normalize).items() if name in _STATISTICS}


def truncate_stored_episodes(model: BaseAlgorithm) -> None:
    """Marks the last steps in the replay buffer as the last of their episodes; for environments that are reset.

    Otherwise SB3 continues over the gap: n-step returns add up the next episode's rewards, and a buffer that stores
    each observation once takes the next episode's first one for the state after the last step. That state is lost, so
    in such a buffer, which knows no time limits either, the episode terminates; n-step returns are truncated.
    """
    buffer = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
    if buffer is None or buffer.size() == 0:
        return
    last = buffer.pos - 1  # -1 is the last place of a full buffer
    if isinstance(buffer, NStepReplayBuffer):
        buffer.timeouts[last] = np.logical_or(buffer.timeouts[last], buffer.dones[last] == 0)
    elif buffer.optimize_memory_usage:
        buffer.dones[last] = 1
