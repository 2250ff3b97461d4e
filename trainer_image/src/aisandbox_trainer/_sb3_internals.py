"""Every name of stable-baselines3 that is not public, in one place.

Written for the versions that this package's metadata allows; its upper bound is raised after this module has been
compared with the new version. What is done here has no public form: SB3 offers no way to read or set the last
observation, to stop between two rollouts, or to wrap an environment as it does itself. The fast updates need more of
these names; with FAST_UPDATE=off SB3's own ``train`` is used instead. Must not know runs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

LAST_OBSERVATION = ("_last_obs", "_last_original_obs", "_last_episode_starts")
"""Attributes of a model that belong to its episodes in progress, for the ``exclude`` of ``model.save``."""


@dataclass(frozen=True, slots=True)
class LastObservation:
    """What a model saw last.

    ``normalized`` and ``original`` (before VecNormalize; None without one) are [environments, ...] or dicts of such
    arrays, ``episode_starts`` is [environments] of bool.
    """

    normalized: Any
    original: Any
    episode_starts: Any


def last_observation(model: BaseAlgorithm) -> LastObservation | None:
    """The arrays themselves, not copies; None if the environments are to be reset at the start of learning."""
    if model._last_obs is None:
        return None
    return LastObservation(model._last_obs, getattr(model, "_last_original_obs", None), model._last_episode_starts)


def set_last_observation(model: BaseAlgorithm, last: LastObservation | None) -> None:
    """Sets it; with None SB3 resets the environments when learning starts."""
    model._last_obs = None if last is None else last.normalized
    model._last_original_obs = None if last is None else last.original
    model._last_episode_starts = None if last is None else last.episode_starts


def reset_environments_at_next_start(model: BaseAlgorithm) -> None:
    """Makes SB3 reset the environments when learning starts the next time."""
    model._last_obs = None


def episode_count(model: BaseAlgorithm) -> int:
    """How many episodes the model has finished; counted by off-policy algorithms only."""
    return model._episode_num


def set_episode_count(model: BaseAlgorithm, count: int) -> None:
    """Sets :func:`episode_count`."""
    model._episode_num = count


def statistics_window(model: BaseAlgorithm) -> int:
    """How many episodes the mean return is computed of."""
    return model._stats_window_size


def wrap_for(model: BaseAlgorithm, env: VecEnv) -> VecEnv:
    """``env`` with the last wrapper SB3 adds itself: the transposition of images."""
    return model._wrap_env(env)


def transpose_images(env: VecEnv) -> VecEnv:
    """``env`` with the transposition of images that SB3 adds to the environments of a model, if they need one."""
    return BaseAlgorithm._wrap_env(env)


def pending_seeds(env: VecEnv) -> Sequence[int | None]:
    """The seeds that the next reset of ``env`` uses; None for an environment without one."""
    return env._seeds


def clear_pending_seeds(env: VecEnv) -> None:
    """Lets the next reset of ``env`` continue its generators instead of seeding them."""
    env._reset_seeds()


def numbers_of(env: VecEnv, indices: VecEnvIndices) -> Sequence[int]:
    """The numbers of the environments that ``indices`` of a method of ``env`` stand for; None are all."""
    return list(env._get_indices(indices))


def set_number_of_environments(env: VecEnv, number: int) -> None:
    """Changes how many environments ``env`` has; seeds that are not used yet are continued, ``seed + i``."""
    first = env._seeds[0]
    env.num_envs = number
    env.reset_infos = [{} for _ in range(number)]
    env._options = [{} for _ in range(number)]
    env._seeds = [None if first is None else first + i for i in range(number)]


def start_learning(model: BaseAlgorithm, total_timesteps: int, callback: BaseCallback) -> BaseCallback:
    """What ``model.learn`` does before its loop; resets the environments if there is no last observation.

    ``total_timesteps`` counts from the start of the run, as ``model.num_timesteps`` does.
    """
    remaining = total_timesteps - model.num_timesteps
    noise = model.action_noise if model._last_obs is not None else None
    kept = copy.deepcopy(noise)
    _, started = model._setup_learn(remaining, callback, reset_num_timesteps=False)
    if kept is not None:  # SB3 resets it, also where episodes go on
        model.action_noise = kept
    started.on_training_start({}, {})
    return started


def log_interval(model: BaseAlgorithm) -> int:
    """The default of ``learn``: every how many rollouts (on-policy) or episodes (off-policy) SB3 logs."""
    return int(inspect.signature(type(model).learn).parameters["log_interval"].default)


@dataclass(slots=True)
class TrainingSteps:
    """The two steps of ``model.learn``'s loop, as of SB3 2.9: ``collect_rollouts``, then ``train``.

    Sources: ``OnPolicyAlgorithm.learn``, ``OffPolicyAlgorithm.learn``.
    """

    model: BaseAlgorithm
    total_timesteps: int
    callback: BaseCallback
    log_interval: int
    _iteration: int = 0
    _rollout_steps: int = 0

    def collect(self) -> None:
        """Collects one rollout into the model's buffer. Raises what the environments raise."""
        model: Any = self.model
        if isinstance(model, OnPolicyAlgorithm):
            env: Any = model.env
            model.collect_rollouts(env, self.callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
            return
        rollout = model.collect_rollouts(
            model.env,
            train_freq=model.train_freq,
            action_noise=model.action_noise,
            callback=self.callback,
            learning_starts=model.learning_starts,
            replay_buffer=model.replay_buffer,
            log_interval=self.log_interval,
        )
        self._rollout_steps = rollout.episode_timesteps

    def update(self) -> None:
        """Updates the policy from what was collected."""
        model: Any = self.model
        if isinstance(model, OffPolicyAlgorithm):
            gradient_steps = model.gradient_steps if model.gradient_steps >= 0 else self._rollout_steps
            if model.num_timesteps > model.learning_starts and gradient_steps > 0:
                model.train(batch_size=model.batch_size, gradient_steps=gradient_steps)
            return
        self._iteration += 1
        model._update_current_progress_remaining(model.num_timesteps, self.total_timesteps)
        if self._iteration % self.log_interval == 0:
            model.dump_logs(self._iteration)
        model.train()


def set_learning_rate(model: BaseAlgorithm, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Sets the optimizers' learning rate by the schedule, as ``train`` does first."""
    model._update_learning_rate(list(optimizers))


def use_own_networks(model: Any) -> None:
    """Gives a copy of an off-policy model its own policy's networks, and its own entropy coefficient if it has one."""
    model._create_aliases()
    if hasattr(model, "ent_coef_optimizer"):
        learned = model.log_ent_coef, model.ent_coef_optimizer
        model.log_ent_coef, model.ent_coef_optimizer = copy.deepcopy(learned)


def scheduled(model: BaseAlgorithm, schedule: Any) -> float:
    """The value of a schedule of SB3 now."""
    return float(schedule(model._current_progress_remaining))


def count_updates(model: Any, updates: int) -> int:
    """Adds to SB3's counter of updates and returns it."""
    model._n_updates += updates
    return int(model._n_updates)


def vec_normalize(model: BaseAlgorithm) -> VecNormalize | None:
    """The VecNormalize with which a replay buffer's rows are normalised."""
    return model._vec_normalize_env


def variables_of(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """The tensors of the algorithm itself that it trains, by their names: log_ent_coef, where it is not fixed."""
    names = model._get_torch_save_params()[1]
    return {name: tensor for name in names if (tensor := getattr(model, name)).requires_grad}


class Unsaved(BaseAlgorithm):
    """A mixin: attributes that ``save`` leaves out."""

    unsaved: tuple[str, ...] = ()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *self.unsaved]
