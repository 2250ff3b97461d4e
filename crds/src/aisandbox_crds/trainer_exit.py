"""How a trainer ends: its exit codes and the message it leaves, read by whoever started it.

The codes follow sysexits.h and the shell's 128 + signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from aisandbox_crds.status import Failure


class ExitCode(IntEnum):
    """What became of an attempt; any other code is a crash and is retried."""

    DONE = 0
    """The run is finished, the final model is published."""

    RETRYABLE = 75
    """A trouble another attempt may not meet (EX_TEMPFAIL)."""

    PERMANENT = 78
    """No attempt can succeed: a bad hyperparameter, an unsuitable action space (EX_CONFIG)."""

    CANCELLED = 143
    """Stopped by SIGTERM, after a checkpoint (128 + 15)."""


@dataclass(frozen=True, slots=True)
class TerminationMessage:
    """The JSON a trainer writes to TERMINATION_MESSAGE_PATH as its last act; at most 4,096 bytes."""

    attempt: int
    exit_code: int
    timesteps: int
    failure: Failure | None = None
