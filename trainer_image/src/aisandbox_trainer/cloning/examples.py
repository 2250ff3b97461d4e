"""What a policy is taught: observations, actions and returns, in the form that its algorithm takes.

Must not know losses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from aisandbox_trainer.cloning.recorded_env import Seen
from aisandbox_trainer.environments.space_adapter import SpaceAdapter

if TYPE_CHECKING:
    from aisandbox_environment import Demonstrations

Array = NDArray[Any]
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps: tensors [B, ...] on the model's device. ``masks``: bool, None without action masks."""

    observations: Any
    actions: torch.Tensor
    returns: torch.Tensor
    masks: Array | None


class Examples:
    """All rows of the demonstrations of a run, and of each step the discounted return that followed it.

    Actions are those of the spaces that SB3 sees. The rows are numbered as in the file. ``check`` is called from time
    to time wherever all rows are gone through, and may raise.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        seen: Seen,
        recorded: Demonstrations,
        adapter: SpaceAdapter,
        check: Callable[[], None],
    ) -> None:
        self.seen = seen
        self.check = check
        self.last = recorded.last
        self.terminated, self.truncated = recorded.terminated, recorded.truncated
        self.actions = adapter.inverse_action(recorded.actions)
        self.masks = recorded.action_masks
        self.steps: Array = np.flatnonzero(~recorded.last)
        self.returns = np.zeros(len(recorded.last), np.float32)
        self._device = model.device
        self._gamma = float(model.gamma)  # type: ignore[attr-defined]
        self._discrete = isinstance(model.action_space, spaces.Discrete)

    @property
    def episodes(self) -> list[Array]:
        """The rows of the steps of each episode."""
        ends = np.flatnonzero(self.last)
        starts = np.concatenate(([0], ends[:-1] + 1))
        return [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]

    def observations(self, rows: Array) -> Any:
        """What the policy takes for these rows, as tensors."""
        return obs_as_tensor(self.seen.for_policy(rows), self._device)

    def batch(self, rows: Array) -> Batch:
        """The steps of these rows."""
        actions = torch.as_tensor(self.actions[rows], device=self._device)
        actions = actions.long().flatten() if self._discrete else actions.float().reshape(len(rows), -1)
        returns = torch.as_tensor(self.returns[rows], device=self._device)
        return Batch(self.observations(rows), actions, returns, None if self.masks is None else self.masks[rows])

    def compute_returns(self, values: Callable[[Any], torch.Tensor]) -> None:
        """Sets :attr:`returns`. ``values``: what the model expects after a last observation, where time ran out."""
        cut = np.flatnonzero(self.last)
        cut = cut[~self.terminated[cut - 1]]
        following = np.zeros(len(self.last), np.float32)
        with torch.no_grad():
            for rows in (cut[first : first + _ROWS_AT_ONCE] for first in range(0, len(cut), _ROWS_AT_ONCE)):
                self.check()
                following[rows] = values(self.observations(rows)).flatten().cpu().numpy()
        rewards, later = self.seen.scaled_rewards, 0.0
        for row in range(len(self.last) - 1, -1, -1):
            if row % _ROWS_AT_ONCE == 0:
                self.check()
            if self.last[row]:
                later = float(following[row])
            else:
                later = float(rewards[row]) + self._gamma * later
                self.returns[row] = later
