"""The random generators a model draws from, as one value that can be stored.

The generators of environments in this process are part of it; a simulator keeps its own. Must not know what is learned.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from stable_baselines3.common.vec_env import VecEnv


@dataclass(frozen=True, slots=True)
class RandomState:
    """The states of Python's, NumPy's and torch's global generators, the action space's, and the environments'."""

    python: Any
    numpy: Any
    torch: Any
    cuda: Any
    action_space: Any
    environments: tuple[Any, ...] | None

    @classmethod
    def capture(cls, action_space: Space[Any], env: VecEnv | None = None) -> RandomState:
        """The states now; cheap enough for every rollout (some tens of microseconds)."""
        return cls(
            python=random.getstate(),
            numpy=np.random.get_state(),
            torch=torch.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,  # type: ignore[no-untyped-call]
            action_space=action_space.np_random.bit_generator.state,
            environments=_environments(env),
        )

    def restore(self, action_space: Space[Any], env: VecEnv | None = None) -> None:
        """Sets every generator back; environments that were not captured, or are another number, stay as they are."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self.cuda)
        action_space.np_random.bit_generator.state = self.action_space
        inner = _gymnasium(env)
        if self.environments is not None and len(inner) == len(self.environments):
            for one, state in zip(inner, self.environments, strict=True):
                one.unwrapped.np_random.bit_generator.state = state


def _gymnasium(env: VecEnv | None) -> list[Any]:
    return list(getattr(env.unwrapped, "envs", [])) if env is not None else []


def _environments(env: VecEnv | None) -> tuple[Any, ...] | None:
    inner = _gymnasium(env)
    return tuple(one.unwrapped.np_random.bit_generator.state for one in inner) if inner else None
