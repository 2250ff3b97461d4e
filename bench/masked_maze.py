"""A maze for learning.py, with and without action masks: half of the moves lead into walls. No benchmark by itself.

In a perfect maze of n cells there are n - 1 passages, so a cell has 2 open sides of 4 on average. A move into a wall
changes nothing and costs as much as any other.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

SIZE = 9
MOST_STEPS = 200
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


class Maze(gym.Env[Any, Any]):
    """Starts in a random cell and ends in the last one; -1 a step. Observes the place of the cell, one-hot."""

    observation_space = gym.spaces.Box(0, 1, (SIZE * SIZE,), np.float32)
    action_space = gym.spaces.Discrete(4)
    open_sides: ClassVar[NDArray[np.bool_]]
    """[cells, moves]: the same maze in every process."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        self._cell = int(self.np_random.integers(SIZE * SIZE - 1))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Makes a move, if there is a passage."""
        if self.open_sides[self._cell, action]:
            down, right = _MOVES[action]
            self._cell += SIZE * down + right
        return self._observation(), -1.0, self._cell == SIZE * SIZE - 1, False, {}

    def _observation(self) -> NDArray[np.float32]:
        return np.eye(SIZE * SIZE, dtype=np.float32)[self._cell]


class MaskedMaze(Maze):
    """The same with masks."""

    def action_masks(self) -> NDArray[np.bool_]:
        """The moves with a passage."""
        return self.open_sides[self._cell]


def _carved(random: np.random.Generator) -> NDArray[np.bool_]:
    """A maze by randomised depth-first search."""
    sides = np.zeros((SIZE * SIZE, 4), np.bool_)
    path, seen = [(0, 0)], {(0, 0)}
    while path:
        row, column = path[-1]
        around = [(row + down, column + right, move) for move, (down, right) in enumerate(_MOVES)]
        free = [(r, c, move) for r, c, move in around if 0 <= r < SIZE and 0 <= c < SIZE and (r, c) not in seen]
        if not free:
            path.pop()
            continue
        r, c, move = free[random.integers(len(free))]
        sides[row * SIZE + column, move] = sides[r * SIZE + c, move ^ 1] = True
        seen.add((r, c))
        path.append((r, c))
    return sides


Maze.open_sides = _carved(np.random.default_rng(1))
gym.register("Maze-v0", lambda: Maze(), max_episode_steps=MOST_STEPS)
gym.register("MaskedMaze-v0", lambda: MaskedMaze(), max_episode_steps=MOST_STEPS)
