"""Shows the progress of a run until it is done: a bar on a terminal, lines elsewhere, JSON lines for scripts.

Owns what is printed when. Must not know how a lost connection is opened again.
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

from aisandbox_cli.connection import Connection
from aisandbox_cli.rendering import (
    details,
    duration,
    lesson_text,
    message_json,
    metrics,
    number,
    phase_name,
    state_text,
    status_line,
    two_columns,
)
from aisandbox_cli.watch import ConnectionLost, watch_training

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Seconds between two lines that differ only in their numbers.
LINE_INTERVAL = 5.0
# Activities that begin, or change their text, too often for a line each.
TOO_FREQUENT = (progress_pb.TRAINER_ACTIVITY_EVALUATING, progress_pb.TRAINER_ACTIVITY_CLONING)
SECONDS = r"\b\d+(\.\d+)? s\b"


class Display(Protocol):
    """Shows the statuses of one run; a context manager."""

    def update(self, status: pb.StatusResponse) -> None:
        """Shows a status."""

    def note(self, text: str) -> None:
        """Shows a message that is not a status."""

    def __enter__(self) -> Self:
        """Starts to draw."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Restores the terminal."""


def display_for(stream: TextIO, *, json: bool) -> Display:
    """The display for ``stream``: JSON lines if asked for, a bar on a terminal, otherwise lines."""
    if json:
        return JsonLines(stream)
    return Bar(stream) if stream.isatty() else Lines(stream)


class JsonLines:
    """One StatusResponse as JSON per line; notes go to stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def update(self, status: pb.StatusResponse) -> None:
        """Prints the status."""
        print(message_json(status), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Prints the note to stderr."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Lines:
    """A line when the phase, the activity or the warning changes, and every :data:`LINE_INTERVAL` seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._shown: tuple[str, str] = ("", "")
        self._next = 0.0

    def update(self, status: pb.StatusResponse) -> None:
        """Prints the status if its text changed or the interval has passed."""
        frequent = status.activity in TOO_FREQUENT
        shown = (phase_name(status.phase) if frequent else state_text(status), warning_text(status.warning))
        if shown != self._shown or self._clock() >= self._next:
            warn = shown[1] != self._shown[1]
            self._shown, self._next = shown, self._clock() + LINE_INTERVAL
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
    """One progress bar with phase, timesteps, reward, steps per second and time left."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[metrics]}", markup=False),
            console=Console(file=stream, highlight=False, soft_wrap=False),
            expand=True,
        )
        self._task: TaskID = self._progress.add_task("Pending", total=None, metrics="")
        self._warning = ""

    def update(self, status: pb.StatusResponse) -> None:
        """Redraws the bar; prints a new warning above it."""
        steps = f"{status.timesteps_done:,}/{status.total_timesteps:,}"
        self._progress.update(
            self._task,
            description=_state_with_wait(status),
            completed=status.timesteps_done,
            total=status.total_timesteps or None,
            metrics="  ".join([steps, *_short_metrics(status)]),
        )
        warning = warning_text(status.warning)
        if warning and warning != self._warning:
            self.note(f"warning: {status.warning}")
        self._warning = warning

    def note(self, text: str) -> None:
        """Prints the note above the bar."""
        self._progress.console.print(text, markup=False)

    def __enter__(self) -> Self:
        """Starts to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last bar on the screen and restores the cursor."""
        self._progress.stop()


def warning_text(warning: str) -> str:
    """The warning without its seconds, which increase while it is the same warning."""
    return re.sub(SECONDS, "", warning)


def _state_with_wait(status: pb.StatusResponse) -> str:
    """The state, with the seconds it has waited if it waits for a simulator."""
    text, waited = state_text(status), re.search(SECONDS, status.warning)
    waits = status.activity == progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR
    return f"{text.removesuffix(')')}, {waited[0]})" if waits and waited and text.endswith(")") else text


def _short_metrics(status: pb.StatusResponse) -> list[str]:
    """The metrics that fit next to a bar in 80 columns."""
    if status.is_done:
        return metrics(status)[:1]
    found = []
    if status.HasField("episode_reward_mean"):
        found.append(f"reward {number(status.episode_reward_mean)}")
    if status.HasField("lesson"):
        found.append(lesson_text(status))
    if status.fps:
        found.append(f"{status.fps:,.0f}/s")
    if status.HasField("estimated_remaining_seconds"):
        found.append(f"{duration(status.estimated_remaining_seconds)} left")
    return found


def show_until_done(service: Connection, run_id: str, *, as_json: bool) -> int:
    """Shows the run until it is done; returns 0 if it succeeded, 1 if not, 130 after Ctrl-C, which the run survives."""
    status = pb.StatusResponse()
    try:
        with display_for(sys.stdout, json=as_json) as display:
            for event in watch_training(service.stub, run_id):
                if isinstance(event, ConnectionLost):
                    display.note(f"connection to the service lost ({event.reason}); retrying, the run is not affected")
                else:
                    previous, status = status, event
                    display.update(status)
                    if status.phase == pb.PHASE_SUSPENDED and previous.phase != pb.PHASE_SUSPENDED:
                        display.note(f"suspended until you resume it:  {service.command(f'resume {run_id}')}")
    except KeyboardInterrupt:
        print("\nStopped watching; the training continues.", *_next_steps(service, run_id), sep="\n", file=sys.stderr)
        return 130
    if not as_json:
        print(two_columns(details(status)))
        if status.phase == pb.PHASE_SUCCEEDED:
            print(f"\nUse the policy:  {service.command(f'act {run_id} OBSERVATION...')}")
    return 0 if status.phase == pb.PHASE_SUCCEEDED else 1


def _next_steps(service: Connection, run_id: str) -> list[str]:
    return [
        f"  watch it again:  {service.command(f'watch {run_id}')}",
        f"  suspend it:      {service.command(f'suspend {run_id}')}",
        f"  cancel it:       {service.command(f'cancel {run_id}')}",
    ]
