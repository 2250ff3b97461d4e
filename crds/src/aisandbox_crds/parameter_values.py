"""The values a hyperparameter can have, beside Python's own.

They stand for objects of PyTorch and stable-baselines3 without importing them; the trainer makes the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """``lin_3e-4``: ``initial`` times the fraction of the training that remains, so 0 at its end (RL Zoo)."""

    initial: float

    def __str__(self) -> str:
        return f"lin_{self.initial:g}"


@dataclass(frozen=True, slots=True)
class ClassName:
    """A known class by its name, as ``nn.ReLU``, ``th.optim.Adam`` or ``NatureCNN``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Normalize:
    """The keywords of SB3's VecNormalize; ``gamma`` is the algorithm's by default."""

    norm_obs: bool = True
    norm_reward: bool = True
    clip_obs: float = 10.0
    clip_reward: float = 10.0
    gamma: float = 0.99
    epsilon: float = 1e-8
    norm_obs_keys: tuple[str, ...] | None = None


Value: TypeAlias = (
    bool | int | float | str | LinearSchedule | ClassName | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None
)
"""The values that a text can state: lists, tuples and mappings hold Values."""
