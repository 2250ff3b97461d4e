"""Another number of environments for a model that has learned already, between two rollouts.

A rollout buffer is empty then and is made again, and so is the state of a recurrent policy, whose episodes are new. A
replay buffer keeps its transitions: its arrays are [rows, environments, ...] in the order in which steps were taken, so
they are seen with other rows, without a copy.
Must not know where environments run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from aisandbox_trainer import _sb3_contrib_internals


def set_environments(model: BaseAlgorithm, env: VecEnv) -> None:
    """Lets ``model`` go on with ``env``, whose number of environments may be another; they are reset first.

    The statistics of a VecNormalize are those of the model's environments before.
    """
    before, after = model.get_vec_normalize_env(), unwrap_vec_normalize(env)
    if before is not None and after is not None:
        for name in ("obs_rms", "ret_rms"):
            if hasattr(before, name):
                setattr(after, name, getattr(before, name))
    model.n_envs = env.num_envs
    model.set_env(env)
    if isinstance(model, OnPolicyAlgorithm):
        model.rollout_buffer.n_envs = env.num_envs
        _sb3_contrib_internals.resize_lstm_state(model)
        model.rollout_buffer.reset()
    elif isinstance(model, OffPolicyAlgorithm):
        if model.replay_buffer is not None:
            regroup(model.replay_buffer, env.num_envs)
        fit_action_noise(model)


def fit_action_noise(model: OffPolicyAlgorithm) -> None:
    """Starts the action noise anew if it is that of another number of environments than the model's."""
    noise = model.action_noise
    if isinstance(noise, VectorizedActionNoise) and noise.n_envs != model.n_envs:
        model.action_noise = noise.base_noise  # SB3 makes one of it for each environment


def can_regroup(buffer: ReplayBuffer) -> bool:
    """Whether a transition is whole in its own row; else the next one of its environment is read from the next row."""
    return not isinstance(buffer, NStepReplayBuffer) and not buffer.optimize_memory_usage


def regroup(buffer: ReplayBuffer, environments: int) -> None:
    """Makes a replay buffer one of so many ``environments``; at most as many of the newest transitions are lost."""
    if environments == buffer.n_envs:
        return
    stored = buffer.pos * buffer.n_envs
    size = buffer.buffer_size * buffer.n_envs
    rows = max(size // environments, 1)
    for owner, name, array in list(_arrays(buffer)):
        flat = array.reshape(size, *array.shape[2:])
        kept = (
            flat[: rows * environments]
            if rows * environments <= size
            else np.zeros_like(flat, shape=(environments, *flat.shape[1:]))
        )
        owner[name] = kept.reshape(rows, environments, *flat.shape[1:])
    buffer.full = (buffer.full and rows * environments <= size) or stored // environments >= rows
    buffer.buffer_size, buffer.n_envs = rows, environments
    buffer.pos = stored // environments % rows


def clear(buffer: ReplayBuffer, rows: int, environments: int) -> None:
    """Empties a replay buffer and gives it so many ``rows`` of so many ``environments``."""
    for owner, name, array in list(_arrays(buffer)):
        owner[name] = np.zeros((rows, environments, *array.shape[2:]), array.dtype)  # no memory until it is written
    buffer.buffer_size, buffer.n_envs = rows, environments
    buffer.pos, buffer.full = 0, False


def _arrays(buffer: ReplayBuffer) -> Iterator[tuple[dict[str, Any], str, NDArray[Any]]]:
    """Every array with one row a step, in the dict that holds it."""
    for name, value in vars(buffer).items():
        if isinstance(value, np.ndarray) and value.shape[:2] == (buffer.buffer_size, buffer.n_envs):
            yield vars(buffer), name, value
        elif isinstance(value, dict) and name.endswith("observations"):
            yield from ((value, key, inner) for key, inner in value.items())
