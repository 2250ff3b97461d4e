"""The lessons of a run: its environment's parameters by progress, as frozen values and the table of their fields.

The rules across them are in :mod:`aisandbox_crds.lesson_rules`. Must not know who plays the episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aisandbox_crds.field_rules import Pattern, about

MAX_LESSONS = 32
MAX_PARAMETERS = 64
MAX_COUNT = 10**12
MAX_WINDOW = 10_000
DEFAULT_WINDOW = 100
"""How many episodes a mean return is of."""


@dataclass(frozen=True, slots=True)
class LessonEnd:
    """When a lesson ends: as soon as one of reward, episodes and timesteps is reached."""

    reward: float | None = field(
        default=None,
        metadata=about(
            "The mean undiscounted return of the last overEpisodes episodes is at least this. Without it, no return "
            "ends the lesson.",
        ),
    )
    over_episodes: int | None = field(
        default=None,
        metadata=about(
            "How many episodes that mean is of; only with reward. Without it, 100.",
            minimum=1,
            maximum=MAX_WINDOW,
            bits=32,
        ),
    )
    episodes: int | None = field(
        default=None,
        metadata=about(
            "So many episodes that began in the lesson have ended. Without it, no number of episodes ends the lesson.",
            minimum=1,
            maximum=MAX_COUNT,
        ),
    )
    timesteps: int | None = field(
        default=None,
        metadata=about(
            "So many environment steps were taken in the lesson, over all environments. Without it, no number of "
            "steps ends the lesson.",
            minimum=1,
            maximum=MAX_COUNT,
        ),
    )

    @property
    def window(self) -> int:
        """How many episodes the mean return is of."""
        return self.over_episodes or DEFAULT_WINDOW


@dataclass(frozen=True, slots=True)
class Lesson:
    """A part of a training: parameters for its episodes, and when the next lesson begins."""

    name: str = field(
        metadata=about(
            "What the status calls it; each lesson has a name of its own.",
            min_length=1,
            max_length=64,
            pattern=Pattern(
                "[A-Za-z0-9]([A-Za-z0-9 _.-]{0,62}[A-Za-z0-9])?",
                "must be 1 to 64 letters, digits, blanks, '_', '.' and '-', with a letter or digit at both ends",
            ),
        )
    )
    parameters: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "Values for parameters that the environment declares; the others have their defaults. A number, a text, "
            "true or false is the value itself. {uniform: [1, 5]}, {log_uniform: [0.01, 1]} and {choice: [ice, sand]} "
            "are drawn for each episode; uniform of a parameter that is a whole number gives whole numbers, both ends "
            "included.",
            max_entries=MAX_PARAMETERS,
        ),
    )
    until: LessonEnd | None = field(
        default=None,
        metadata=about(
            "When the lesson ends. Every lesson but the last has it; the last one lasts to the end of the run.",
        ),
    )
