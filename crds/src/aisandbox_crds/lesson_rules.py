"""Which lessons a run may have: the rules across them, and whether they fit the parameters an environment declares.

Owns the notation of values that are drawn. The rules of single fields are those of the table. Must not draw a value or
ask an environment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aisandbox_crds.errors import FieldError, short_repr
from aisandbox_crds.field_rules import object_errors
from aisandbox_crds.lessons import MAX_LESSONS, Lesson, LessonEnd

MAX_CHOICES = 100
LONGEST_TEXT = 1024
MOST_WHOLE = 2**53
"""Whole numbers travel as double."""

Value = float | int | str | bool

_NOTATION = (
    "must be a number, a text, true, false, {uniform: [low, high]}, {log_uniform: [low, high]} or {choice: [...]}"
)
_RANGES = ("uniform", "log_uniform")


class DeclaredParameter(Protocol):
    """A parameter that an environment declares; see EpisodeParameter in environment.proto.

    ``problem`` says why a value is not one of its values, as a phrase, or "".
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        ...

    def problem(self, value: object) -> str:
        """Why it cannot have this value, as "must be ..."; empty if it can."""
        ...


@dataclass(frozen=True, slots=True)
class Draw:
    """What a lesson says of one parameter: ``kind`` is constant, uniform, log_uniform or choice.

    ``values``: the constant, the two ends, or the values to choose from.
    """

    kind: str
    values: tuple[Value, ...]


def read_draw(value: object) -> Draw | str:
    """The meaning of a lesson's entry for a parameter, or the rule that it breaks."""
    if _is_value(value):
        return Draw("constant", (value,))  # type: ignore[arg-type]
    if not isinstance(value, Mapping) or len(value) != 1:
        return _NOTATION
    ((kind, values),) = value.items()
    if kind not in (*_RANGES, "choice") or not isinstance(values, Sequence) or isinstance(values, str):
        return _NOTATION
    if not all(map(_is_value, values)):
        return f"{kind} must have finite numbers, texts of at most {LONGEST_TEXT:,} characters, true or false"
    if kind == "choice":
        rule = f"choice must have 1 to {MAX_CHOICES} values"
        return Draw(kind, tuple(values)) if 1 <= len(values) <= MAX_CHOICES else rule
    if len(values) != 2 or not all(map(_is_number, values)) or not values[0] <= values[1]:
        return f"{kind} must have two numbers, the lower one first"
    if not math.isfinite(float(values[1]) - float(values[0])):
        return f"{kind} must have two numbers whose difference is a finite number, the lower one first"
    if kind == "log_uniform" and values[0] <= 0:
        return "log_uniform must have two numbers above 0, the lower one first"
    return Draw(kind, tuple(values))


def lesson_errors(lessons: Sequence[Lesson], total_timesteps: int) -> Iterator[FieldError]:
    """What lessons may not say, whatever the environment declares; of more than MAX_LESSONS, nothing."""
    if len(lessons) > MAX_LESSONS:
        return  # the table refuses them, and names are compared with each other
    for i, lesson in enumerate(lessons):
        where = f"lessons[{i}]"
        yield from object_errors(lesson, f"{where}.")
        if lesson.name in [other.name for other in lessons[:i]]:
            yield FieldError(f"{where}.name", f"is {short_repr(lesson.name)}, which an earlier lesson has too")
        for name, value in lesson.parameters.items():
            if isinstance(draw := read_draw(value), str):
                yield FieldError(_path(i, name), f"{draw}, got {short_repr(value)}")
    yield from _end_errors(lessons, total_timesteps)


def parameter_errors(
    lessons: Sequence[Lesson], declared: Sequence[DeclaredParameter], who: str
) -> Iterator[FieldError]:
    """Where lessons do not fit what ``who`` ("the simulator at sim:50061") declares."""
    if lessons and not declared:
        yield FieldError("lessons", f"need parameters, and {who} declares none")
        return
    known = {parameter.name: parameter for parameter in declared}
    for i, lesson in enumerate(lessons):
        for name, value in lesson.parameters.items():
            parameter, draw = known.get(name), read_draw(value)
            if parameter is None:
                yield FieldError(_path(i, name), f"is unknown; {who} declares {', '.join(known)}")
            elif isinstance(draw, Draw) and (rule := _misfit(parameter, draw)):
                yield FieldError(_path(i, name), f"{rule}; declared by {who}")


def _misfit(parameter: DeclaredParameter, draw: Draw) -> str:
    """Why a parameter cannot have a value that is drawn."""
    if draw.kind in _RANGES and parameter.whole and draw.kind != "uniform":
        return "is a whole number, which log_uniform does not give: use uniform or choice"
    return next((problem for value in draw.values if (problem := parameter.problem(value))), "")


def _end_errors(lessons: Sequence[Lesson], total_timesteps: int) -> Iterator[FieldError]:
    taken = 0
    for i, lesson in enumerate(lessons):
        where, until = f"lessons[{i}].until", lesson.until
        if i == len(lessons) - 1:
            if until is not None:
                yield FieldError(where, "is of the last lesson, which lasts to the end of the run: remove it")
        elif until is None:
            yield FieldError(where, "is required: without it the lesson never ends, and the next one never begins")
        else:
            yield from object_errors(until, f"{where}.")
            yield from _until_errors(until, where)
            taken += _least_steps(until)
            if taken >= total_timesteps > 0:
                rule = (
                    f"can never be reached: the lessons up to here take {taken:,} timesteps or more, and "
                    f"total_timesteps is {total_timesteps:,}"
                )
                yield FieldError(where, rule)
                return


def _until_errors(until: LessonEnd, where: str) -> Iterator[FieldError]:
    if until.reward is None and until.episodes is None and until.timesteps is None:
        yield FieldError(where, "must have at least one of reward, episodes and timesteps")
    if until.reward is not None and not math.isfinite(until.reward):
        yield FieldError(f"{where}.reward", f"must be finite, got {until.reward}")
    if until.over_episodes is not None and until.reward is None:
        yield FieldError(f"{where}.over_episodes", "says how many episodes the reward is the mean of: set reward too")
    ends = [end for end in (until.episodes, until.timesteps) if end is not None]
    if until.reward is not None and ends and min(ends) < until.window:
        rule = (
            f"can never be reached: it is the mean of {until.window:,} episodes, and the lesson ends before they have "
            "ended; lower over_episodes, or raise episodes and timesteps"
        )
        yield FieldError(f"{where}.reward", rule)


def _least_steps(until: LessonEnd) -> int:
    """How many steps the lesson takes at least: an episode has one or more."""
    counts = [until.timesteps, until.episodes, until.window if until.reward is not None else None]
    return min((count for count in counts if isinstance(count, int)), default=0)


def _path(lesson: int, name: str) -> str:
    return f"lessons[{lesson}].parameters.{name}"[:110]


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MOST_WHOLE if isinstance(value, int) else math.isfinite(value)


def _is_value(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return isinstance(value, bool) or _is_number(value)
