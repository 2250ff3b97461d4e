"""One attempt at a run: the start of its trainer, and how it ended.

Owns the files an attempt has in RUN/logs: the trainer's log and its termination message. Must not know what follows
from that; that is :mod:`aisandbox_api.local.status_updates`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from aisandbox_crds import ExitCode, Failure, InvalidRun, Reason, TerminationMessage, TrainerStart
from aisandbox_model_store import Damaged, DiskFull, open_regular, read_regular

from aisandbox_api.errors import FailedPrecondition, LaunchFailed
from aisandbox_api.local.launcher import Launcher, Trainer
from aisandbox_api.local.status_updates import AttemptEnd

log = structlog.get_logger()

LARGEST_TERMINATION_MESSAGE = 1024 * 1024
"""Bytes; what a trainer writes has a hundredth of them."""
LOG_TAIL_LINES = 8
LOG_TAIL_BYTES = 8192


def termination_message_path(logs_path: Path, attempt: int) -> Path:
    """Where the trainer of that attempt writes its termination message."""
    return logs_path / f"termination-message-{attempt}.json"


def read_termination_message(logs_path: Path, attempt: int) -> TerminationMessage | None:
    """The termination message of that attempt; None if there is none that can be read. Blocking."""
    try:
        data = read_regular(termination_message_path(logs_path, attempt), LARGEST_TERMINATION_MESSAGE)
        message = TerminationMessage.from_json(data.decode())
    except (OSError, UnicodeDecodeError, InvalidRun, Damaged):
        return None
    return message if message.attempt == attempt else None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A running trainer; ``log_start`` is the byte of the log where its own part begins."""

    start: TrainerStart
    number: int
    trainer: Trainer
    logs_path: Path
    log_start: int

    @classmethod
    async def launch(cls, launcher: Launcher, start: TrainerStart, number: int, logs_path: Path) -> Attempt:
        """Starts the trainer. Raises LaunchFailed, DiskFull, OSError."""
        log_start = await asyncio.to_thread(_prepare, logs_path, number)
        trainer = await launcher.launch(start, logs_path / "trainer.log")
        log.info("trainer started", run=start.run_id, attempt=number, pid=trainer.pid)
        return cls(start, number, trainer, logs_path, log_start)

    async def wait(
        self,
        unless_stopped: Callable[[Awaitable[object]], Awaitable[bool]],
        deadline_seconds: float | None,
        grace_seconds: float,
    ) -> AttemptEnd:
        """Waits for the end. ``unless_stopped`` tells whether an awaitable finished before a stop was asked for.

        A trainer that must stop gets ``grace_seconds`` for its checkpoint, then it is killed.
        """
        exited = asyncio.ensure_future(self.trainer.wait())
        by_itself = await unless_stopped(asyncio.wait([exited], timeout=deadline_seconds))
        deadline_passed = by_itself and not exited.done()
        if not exited.done():
            self.trainer.terminate()
            await asyncio.wait([exited], timeout=grace_seconds)
        if not exited.done():
            log.warning("trainer did not stop in time and is killed", run=self.start.run_id, pid=self.trainer.pid)
            self.trainer.kill()
        code = await exited
        message, tail = await asyncio.to_thread(self._read_outcome)
        if code is None and message is not None:
            code = message.exit_code
        return AttemptEnd(code, message, tail, stop_asked=not by_itself, deadline_passed=deadline_passed)

    def _read_outcome(self) -> tuple[TerminationMessage | None, tuple[str, ...]]:
        message = read_termination_message(self.logs_path, self.number)
        return message, _tail(self.logs_path / "trainer.log", self.log_start)


def _prepare(logs_path: Path, attempt: int) -> int:
    """Creates the folder and removes the termination message of the previous attempt; the size of the log."""
    logs_path.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        termination_message_path(logs_path, attempt - 1).unlink(missing_ok=True)
    log_path = logs_path / "trainer.log"
    return log_path.stat().st_size if log_path.exists() else 0


def not_started(error: Exception) -> AttemptEnd:
    """The end of an attempt whose trainer could not be started."""
    if isinstance(error, FailedPrecondition):
        return AttemptEnd(ExitCode.PERMANENT, not_started=Failure(error.kind, str(error)))
    reason = Reason.DISK_FULL if isinstance(error, DiskFull) else Reason.LAUNCH_FAILED
    text = str(error) if isinstance(error, LaunchFailed | DiskFull) else f"the trainer could not be started: {error}"
    return AttemptEnd(None, not_started=Failure(reason, text))


def _tail(path: Path, start: int) -> tuple[str, ...]:
    """The last lines that were added to the log after byte ``start``."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except (OSError, Damaged):
        return ()
    return tuple(line.strip()[:300] for line in lines if line.strip())[-LOG_TAIL_LINES:]
