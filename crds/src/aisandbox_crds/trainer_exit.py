"""How a trainer ends: its exit codes and the message it leaves, read by whoever started it.

The codes follow sysexits.h and the shell's 128 + signal. Must not know how a trainer is started or waited for.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, replace
from enum import IntEnum

from aisandbox_crds import codec
from aisandbox_crds.errors import FieldError, InvalidRun, short_repr
from aisandbox_crds.status import Artifact, Failure

MAX_BYTES = 4096
"""What the kubelet reads of a termination message."""


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
    """The JSON a trainer writes to TERMINATION_MESSAGE_PATH as its last act; at most 4,096 bytes.

    It repeats what the last report of progress said, which may have been lost.
    """

    attempt: int
    exit_code: int
    timesteps: int
    failure: Failure | None = None
    latest_checkpoint: Artifact | None = None
    latest_model: Artifact | None = None
    best_model: Artifact | None = None
    resumed_from: Artifact | None = None
    episode_reward_mean: float | None = None

    def to_json(self) -> str:
        """The message as one line of ASCII; a failure's text is cut so that the whole fits in MAX_BYTES."""
        text = self._dump()
        if len(text) <= MAX_BYTES or self.failure is None:
            return text
        reason, message = self.failure.reason[:100], self.failure.message
        keep = bisect_right(
            range(len(message)), MAX_BYTES, key=lambda length: len(self._with(reason, message[:length])._dump())
        )
        return self._with(reason, message[: max(keep - 1, 0)])._dump()

    def _with(self, reason: str, message: str) -> TerminationMessage:
        return replace(self, failure=Failure(reason, f"{message}..."))

    def _dump(self) -> str:
        return json.dumps(codec.to_json(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> TerminationMessage:
        """Reads what :meth:`to_json` wrote. Raises InvalidRun: a trainer that was killed may have left anything."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRun([FieldError("terminationMessage", f"is not JSON: {short_repr(text)}")]) from error
        return codec.from_json(cls, data, "terminationMessage", ignore_unknown=True)
