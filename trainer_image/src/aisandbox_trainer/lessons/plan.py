"""Where a run is in its lessons: which parameters the next episodes get, and when the next lesson begins.

Owns the draws: those of episode n follow from the seed and n alone, so that the state is a few counters. Must not know
how an environment is given parameters.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from aisandbox_crds import Draw, Lesson, LessonEnd, LessonProgress, read_draw
from aisandbox_environment import Parameter, ParameterValue, default_values

SEED_OF_LESSONS = 18_006
"""Beside the run's seed, so that draws are not those of another generator with that seed."""
NO_END = LessonEnd()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LessonState:
    """What a checkpoint holds of a plan.

    ``lesson``: the one that is taught, from 0. ``drawn``: for how many episodes parameters were drawn. ``episodes``,
    ``timesteps`` and ``returns`` (those of the last episodes, as many as the end is decided by) are of this lesson.
    ``playing`` and ``next``: for each environment the lesson of its episode in progress, and of the episode after.
    """

    lesson: int = 0
    drawn: int = 0
    episodes: int = 0
    timesteps: int = 0
    returns: tuple[float, ...] = ()
    playing: tuple[int, ...] = ()
    next: tuple[int, ...] = ()


class LessonPlan:
    """The lessons of one run with this ``seed``, at least one; ``parameters`` are what its environment declares."""

    def __init__(self, lessons: Sequence[Lesson], seed: int, parameters: Sequence[Parameter] = ()) -> None:
        self.lessons = tuple(lessons)
        self.parameters = tuple(parameters)
        self._seed = seed
        self.restore(LessonState())

    @property
    def lesson(self) -> int:
        """The lesson that is taught, from 0."""
        return self._lesson

    @property
    def is_last(self) -> bool:
        """Whether the last lesson is taught."""
        return self._lesson == len(self.lessons) - 1

    @property
    def returns(self) -> list[float]:
        """The undiscounted returns of the last episodes of this lesson."""
        return list(self._returns)

    @property
    def has_all_returns(self) -> bool:
        """Whether as many episodes of this lesson have ended as its mean return is of."""
        return len(self._returns) == self._end.window

    @property
    def state(self) -> LessonState:
        """The state now."""
        counts = self._lesson, self._drawn, self._episodes, self._timesteps
        return LessonState(*counts, tuple(self._returns), tuple(self._playing), tuple(self._next))

    def restore(self, state: LessonState) -> None:
        """Returns to a state of this plan."""
        self._lesson, self._drawn = state.lesson, state.drawn
        self._episodes, self._timesteps = state.episodes, state.timesteps
        self._returns = deque(state.returns, self._end.window)
        self._playing, self._next = list(state.playing), list(state.next)

    def progress(self) -> LessonProgress:
        """The state for a report; may be called by another thread."""
        returns, index = self.returns, self._lesson
        mean = math.fsum(returns) / len(returns) if returns else None
        name = self.lessons[index].name
        return LessonProgress(name, index + 1, len(self.lessons), self._episodes, self._timesteps, mean)

    def begin(self, environments: int) -> list[Mapping[str, ParameterValue]]:
        """The parameters of new episodes in all environments; their next ones are those of :meth:`draw_next`."""
        self._playing = [self._lesson] * environments
        self._next = list(self._playing)
        return [self._draw() for _ in range(environments)]

    def draw_next(self, environment: int) -> Mapping[str, ParameterValue]:
        """The parameters of the episode after the one in progress."""
        self._next[environment] = self._lesson
        return self._draw()

    def after_step(self, ended: Mapping[int, float]) -> Sequence[int]:
        """Counts one step of all environments; ``ended``: the returns of episodes that ended, by environment.

        Returns the environments whose next parameters are to be drawn: those of ``ended``, or all of them where a
        lesson has begun.
        """
        self._timesteps += len(self._playing)
        for environment, episode_return in ended.items():
            if self._playing[environment] == self._lesson:
                self._episodes += 1
                self._returns.append(episode_return)
            self._playing[environment] = self._next[environment]
        if self.is_last or not self._is_over():
            return list(ended)
        log.info("lesson ended", **log_fields(self.progress()))
        self._lesson += 1
        self._episodes = self._timesteps = 0
        self._returns = deque(maxlen=self._end.window)
        log.info("lesson begins", lesson=self.lessons[self._lesson].name, number=self._lesson + 1)
        return range(len(self._playing))

    @property
    def _end(self) -> LessonEnd:
        return self.lessons[self._lesson].until or NO_END

    def _is_over(self) -> bool:
        end = self._end
        if end.timesteps is not None and self._timesteps >= end.timesteps:
            return True
        if end.episodes is not None and self._episodes >= end.episodes:
            return True
        if end.reward is None or len(self._returns) < end.window:
            return False
        return math.fsum(self._returns) / len(self._returns) >= end.reward

    def _draw(self) -> Mapping[str, ParameterValue]:
        """Every parameter that the environment declares, for one episode."""
        random = np.random.default_rng((SEED_OF_LESSONS, self._seed, self._drawn))
        self._drawn += 1
        said = self.lessons[self._lesson].parameters
        values: dict[str, Any] = default_values(self.parameters)
        for parameter in self.parameters:  # in the order of the declaration, which decides the draws
            if parameter.name in said:
                drawn = _draw_value(read_draw(said[parameter.name]), parameter.whole, random)
                values[parameter.name] = parameter.converted(drawn)
        return values


def log_fields(progress: LessonProgress) -> dict[str, Any]:
    """The fields as words of a log line."""
    return {
        "lesson": progress.name,
        "episodes": progress.episodes,
        "timesteps": progress.timesteps,
        "reward_mean": progress.reward_mean,
    }


def _draw_value(draw: Draw | str, whole: bool, random: np.random.Generator) -> ParameterValue:
    """One value. The draw was checked at the start of the run."""
    assert isinstance(draw, Draw)  # noqa: S101
    if draw.kind == "constant":
        return draw.values[0]
    if draw.kind == "choice":
        return draw.values[int(random.integers(len(draw.values)))]
    low, high = (float(value) for value in draw.values)
    if whole:
        return int(random.integers(int(low), int(high), endpoint=True))
    if draw.kind == "uniform":
        return float(random.uniform(low, high))
    return min(max(math.exp(random.uniform(math.log(low), math.log(high))), low), high)
