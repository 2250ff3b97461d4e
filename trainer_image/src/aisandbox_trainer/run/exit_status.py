"""The exit status of an attempt: from an exception to an exit code, a failure and the termination message.

Owns the one mapping of errors to exit codes. Must not know what led to them.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass

import torch
from aisandbox_crds import ExitCode, Failure, InvalidRun, Reason, TerminationMessage, TrainerStart
from aisandbox_environment import InvalidReply, PermanentSimulatorError, TransientSimulatorError
from aisandbox_model_store import DiskFull, Fenced, OutsideRoot, RunReplaced

from aisandbox_trainer.errors import PermanentError, StopRequested, TrainerError
from aisandbox_trainer.runtime.progress import ProgressTracker


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """The exit code of an attempt, and the failure that users see."""

    code: ExitCode
    failure: Failure | None = None


_OUT_OF_MEMORY = ("can't allocate memory", "std::bad_alloc")
"""What PyTorch says in a RuntimeError."""
DONE = ExitStatus(ExitCode.DONE)
CANCELLED = ExitStatus(ExitCode.CANCELLED)


def exit_status_of(error: BaseException) -> ExitStatus:
    """The exit status for an error; an unknown one is retried, with its text as the message."""
    if isinstance(error, StopRequested):
        return CANCELLED
    permanent, reason = _kind(error)
    message = str(error) or type(error).__name__
    if reason == Reason.OUT_OF_MEMORY and not isinstance(error, TrainerError):
        message = f"the trainer needs more memory than it may take (TRAINER_MEMORY_BYTES, or the machine's): {message}"
    if reason == Reason.INTERNAL:
        message = f"{type(error).__name__}: {message}"
    return ExitStatus(ExitCode.PERMANENT if permanent else ExitCode.RETRYABLE, Failure(reason, message))


def _kind(error: BaseException) -> tuple[bool, str]:
    """Whether the error is permanent, and its reason."""
    if isinstance(error, TrainerError):
        return isinstance(error, PermanentError), error.reason
    if isinstance(error, InvalidRun):
        named = any(one.field.partition(".")[0] == "hyperparameters" for one in error.errors)
        return True, Reason.INVALID_HYPERPARAMETER if named else Reason.INVALID_RUN
    if isinstance(error, PermanentSimulatorError):
        return True, Reason.SIMULATOR_INVALID_REPLY if isinstance(error, InvalidReply) else Reason.SIMULATOR_PROTOCOL
    if isinstance(error, TransientSimulatorError):
        return False, Reason.SIMULATOR_UNREACHABLE
    if isinstance(error, OutsideRoot):
        return True, Reason.INVALID_OUTPUT_PATH
    if isinstance(error, Fenced | RunReplaced):  # not permanent: the run continues with the newer attempt
        return False, Reason.FENCED
    if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return False, Reason.DISK_FULL
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY):
        return False, Reason.OUT_OF_MEMORY
    return False, Reason.INTERNAL


def write_termination_message(start: TrainerStart, attempt: int, status: ExitStatus, progress: ProgressTracker) -> None:
    """The last step of an attempt; where it fails, the exit code has to do. ``attempt`` 0: none could be claimed."""
    if start.termination_message_path is None:
        return
    message = TerminationMessage.of(progress.report(attempt), int(status.code), status.failure)
    with suppress(OSError):
        start.termination_message_path.write_text(message.to_json())
