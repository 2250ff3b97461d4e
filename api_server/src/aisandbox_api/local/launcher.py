"""Starting trainers.

Owns the protocol of a launcher and the plain one, which works on every system: a new process for each attempt. The one
that forks is :mod:`aisandbox_api.local.warm_launcher`. Must not know runs beyond TrainerStart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from aisandbox_crds import TrainerStart

from aisandbox_api.errors import LaunchFailed
from aisandbox_api.local.child_process import ChildProcess, python_command

TRAINER_COMMAND = python_command("-P", "-m", "aisandbox_trainer", "run")
"""With ``-P`` no module is imported from the working directory, which is the service's."""


class Trainer(Protocol):
    """A running trainer."""

    @property
    def pid(self) -> int:
        """The process's id."""

    async def wait(self) -> int | None:
        """The exit code, 128 + signal for a killed process; None if it is unknown. May be awaited again."""

    def terminate(self) -> None:
        """Asks it to save a checkpoint and stop."""

    def kill(self) -> None:
        """Ends it at once."""


class Launcher(Protocol):
    """Starts trainers."""

    async def start(self) -> None:
        """Begins to get ready in the background; returns at once."""

    async def ready(self) -> None:
        """Waits until a trainer can be started without delay."""

    async def launch(self, start: TrainerStart, log_path: Path) -> Trainer:
        """Starts one attempt, whose output is added to ``log_path``. Raises LaunchFailed, OSError."""

    async def close(self) -> None:
        """Frees what it holds; trainers that still run are asked to stop."""


class ProcessLauncher:
    """Starts ``command`` for each attempt; its stdin is a pipe that closes when the service is gone."""

    def __init__(self, command: Sequence[str] = TRAINER_COMMAND) -> None:
        self._command = tuple(command)

    async def start(self) -> None:
        """Does nothing."""

    async def ready(self) -> None:
        """Returns at once."""

    async def launch(self, start: TrainerStart, log_path: Path) -> Trainer:
        """Starts a process. Raises LaunchFailed, OSError."""
        environ = {**os.environ, **replace(start, stop_with_parent=True).to_environ(), "PYTHONUNBUFFERED": "1"}
        with await asyncio.to_thread(log_path.open, "ab") as log_file:
            try:
                return await ChildProcess.spawn(self._command, environ, log_file, log_file)
            except OSError as error:
                raise LaunchFailed(f"cannot start the trainer {self._command[0]!r}: {error}") from error

    async def close(self) -> None:
        """Does nothing: a trainer whose stdin closes stops by itself."""
