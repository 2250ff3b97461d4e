"""Shows a run while it goes on: a bar on a terminal, plain lines elsewhere, JSON lines for scripts.

Owns what is printed when. Must not know how the statuses are obtained.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb

from aisandbox_cli.rendering import duration, measures, message_json, number, phase_name, state_text, status_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Seconds between two lines that say the same with other numbers.
LINE_INTERVAL = 5.0
SECONDS = r"\b\d+(\.\d+)? s\b"


class Display(Protocol):
    """Shows the statuses of one run, as a context."""

    def update(self, status: pb.StatusResponse) -> None:
        """Shows a status."""

    def note(self, text: str) -> None:
        """Shows a sentence that is no status."""

    def __enter__(self) -> Self:
        """Begins to draw."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leaves the terminal in order."""


def display_for(stream: TextIO, *, json: bool) -> Display:
    """The display that fits ``stream``."""
    if json:
        return JsonLines(stream)
    return Bar(stream) if stream.isatty() else Lines(stream)


class JsonLines:
    """One StatusResponse in proto-JSON a line; notes go to stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def update(self, status: pb.StatusResponse) -> None:
        """Prints the status."""
        print(message_json(status), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Prints the note for people."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Lines:
    """A line at every change of phase, at every wait, at a new warning, and every :data:`LINE_INTERVAL` seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._shown: tuple[str, str] = ("", "")
        self._next = 0.0

    def update(self, status: pb.StatusResponse) -> None:
        """Prints the status if it says something new, or if it is time."""
        evaluates = status.activity == progress_pb.TRAINER_ACTIVITY_EVALUATING  # comes and goes with the interval
        said = (phase_name(status.phase) if evaluates else state_text(status), cause(status.warning))
        if said != self._shown or self._clock() >= self._next:
            warn = said[1] != self._shown[1]
            self._shown, self._next = said, self._clock() + LINE_INTERVAL
            print(status_line(status, warn=warn), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Prints the note."""
        print(text, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Bar:
    """One bar with phase, timesteps, reward, steps a second and the time left."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(file=stream, highlight=False, soft_wrap=False),
            expand=True,
        )
        self._task: TaskID = self._progress.add_task("Pending", total=None, figures="")
        self._warned = ""

    def update(self, status: pb.StatusResponse) -> None:
        """Redraws the bar."""
        steps = f"{status.timesteps_done:,}/{status.total_timesteps:,}"
        self._progress.update(
            self._task,
            description=_state_and_wait(status),
            completed=status.timesteps_done,
            total=status.total_timesteps or None,
            figures="  ".join([steps, *_short_measures(status)]),
        )
        said = cause(status.warning)
        if said and said != self._warned:
            self.note(f"warning: {status.warning}")
        self._warned = said

    def note(self, text: str) -> None:
        """Prints the note above the bar."""
        self._progress.console.print(text, markup=False)

    def __enter__(self) -> Self:
        """Starts to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the bar as it is and gives the cursor back."""
        self._progress.stop()


def cause(warning: str) -> str:
    """The warning without the seconds in it, which count on while it stays the same."""
    return re.sub(SECONDS, "", warning)


def _state_and_wait(status: pb.StatusResponse) -> str:
    """What the run is doing, and for how long it has waited, if that is what it does."""
    text, waited = state_text(status), re.search(SECONDS, status.warning)
    waits = status.activity == progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR
    return f"{text.removesuffix(')')}, {waited[0]})" if waits and waited and text.endswith(")") else text


def _short_measures(status: pb.StatusResponse) -> list[str]:
    """The figures that fit beside a bar on 80 columns."""
    if status.is_done:
        return measures(status)[:1]
    found = []
    if status.HasField("episode_reward_mean"):
        found.append(f"reward {number(status.episode_reward_mean)}")
    if status.fps:
        found.append(f"{status.fps:,.0f}/s")
    if status.HasField("estimated_remaining_seconds"):
        found.append(f"{duration(status.estimated_remaining_seconds)} left")
    return found
