"""How a trainer ends: its exit codes, its termination message, and what both mean as a Failure.

The exit codes follow sysexits.h and the shell's 128 + signal. Must not know how a trainer is started or waited for: a
pod and a process end alike.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum

from aisandbox_crds import codec
from aisandbox_crds.errors import FieldError, InvalidRun, printable, short_repr
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import ProgressReport
from aisandbox_crds.status_values import Failure

MAX_BYTES = 4096
"""What the kubelet reads of a termination message."""
LONGEST_MESSAGE = 4000
"""Characters of a failure's message, about what the resource's schema takes."""

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]{0,98}[A-Za-z0-9_])?")
_SIGKILL, _SIGTERM = 9, 15  # signal has no SIGKILL on Windows


_NOT_REPEATED = ("activity", "fps", "warning", "unsaved", "episode_length_mean", "evaluation_reward_mean")
"""Fields of a report that are not in a termination message: of interest while a trainer works, or not kept on disk."""


class ExitCode(IntEnum):
    """The exit codes of a trainer; any other one is a crash and is retried."""

    DONE = 0
    """The run is finished, the final model is published."""

    RETRYABLE = 75
    """An error that another attempt may not meet (EX_TEMPFAIL)."""

    PERMANENT = 78
    """No attempt can succeed: a bad hyperparameter, an unsuitable action space (EX_CONFIG)."""

    CANCELLED = 143
    """Stopped by SIGTERM, after a checkpoint (128 + 15)."""


@dataclass(frozen=True, slots=True)
class TerminationMessage(ProgressReport):
    """The JSON a trainer writes to TERMINATION_MESSAGE_PATH before it exits; at most 4,096 bytes.

    It repeats the last report of progress, which may have been lost, without what is of interest only while a trainer
    works (activity, speed, warnings) and what an attempt at a finished run does not know. An older reader ignores
    fields that are new to it.
    """

    exit_code: int = field(kw_only=True)
    failure: Failure | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, report: ProgressReport, exit_code: int, failure: Failure | None = None) -> TerminationMessage:
        """The message that ends the attempt whose last report is ``report``."""
        lasting = {each.name: getattr(report, each.name) for each in fields(ProgressReport)}
        for name in _NOT_REPEATED:
            del lasting[name]
        return cls(**lasting, exit_code=exit_code, failure=failure)

    def to_json(self) -> str:
        """The message as one line of ASCII; a failure's text is cut so that the whole fits in MAX_BYTES."""
        text = _dump(self)
        if len(text) <= MAX_BYTES or self.failure is None:
            return text
        reason, message = self.failure.reason[:100], self.failure.message
        keep = bisect_right(
            range(len(message)), MAX_BYTES, key=lambda length: len(_dump(self._with(reason, message[:length])))
        )
        return _dump(self._with(reason, message[: max(keep - 1, 0)]))

    def _with(self, reason: str, message: str) -> TerminationMessage:
        return replace(self, failure=Failure(reason, f"{message}..."))

    @classmethod
    def from_json(cls, text: str) -> TerminationMessage:
        """Reads what :meth:`to_json` wrote. Raises InvalidRun: a killed trainer may have left a part of one."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRun([FieldError("terminationMessage", f"is not JSON: {short_repr(text)}")]) from error
        return codec.from_json(cls, data, "terminationMessage", ignore_unknown=True)


def _dump(message: TerminationMessage) -> str:
    return json.dumps(codec.to_json(message), separators=(",", ":"))


def explain_exit(
    exit_code: int | None,
    message: TerminationMessage | None = None,
    log_tail: str = "",
    *,
    oom_killed: bool = False,
    more_memory: str,
) -> Failure:
    """Why a trainer that did not finish its run has ended.

    ``exit_code``: 128 + the signal, or minus the signal, for a trainer that was killed; None: unknown. ``log_tail``:
    the last lines it printed. ``oom_killed``: it used more memory than its limit. ``more_memory``: how to give it more,
    as the end of a sentence.
    """
    if message is not None and message.failure is not None:
        return bounded_failure(message.failure.reason, message.failure.message)
    tail = f"; its last lines: {log_tail}" if log_tail else ""
    advice = f"use a smaller buffer_size or n_steps, fewer environments, or {more_memory}"
    if oom_killed:
        return bounded_failure(Reason.OOM_KILLED, f"the trainer needed more memory than its limit: {advice}{tail}")
    if exit_code in (128 + _SIGKILL, -_SIGKILL):
        text = f"the trainer was killed (SIGKILL), probably because the machine ran out of memory: {advice}{tail}"
        return bounded_failure(Reason.TRAINER_KILLED, text)
    if exit_code in (128 + _SIGTERM, -_SIGTERM):
        return bounded_failure(Reason.TRAINER_STOPPED, f"the trainer was stopped (SIGTERM) from outside{tail}")
    how = "for an unknown reason" if exit_code is None else f"with exit code {exit_code}"
    return bounded_failure(Reason.TRAINER_CRASHED, f"the trainer ended {how}, without a termination message{tail}")


def deadline_failure(active_deadline_seconds: int | None) -> Failure:
    """The failure of a run that has trained for its activeDeadlineSeconds."""
    seconds = "" if active_deadline_seconds is None else f" ({active_deadline_seconds} s)"
    message = f"the run has trained for its activeDeadlineSeconds{seconds}; its checkpoints are kept"
    return Failure(Reason.DEADLINE_EXCEEDED, message)


def backoff_limit_failure(failure: Failure, attempt: int, restarts: int) -> Failure:
    """The failure of a run whose attempt with that number ended with ``failure`` when its backoffLimit was spent."""
    text = f"{failure.message} (attempt {attempt}, given up after {restarts} restarts)"
    return bounded_failure(failure.reason, text)


def bounded_failure(reason: str, message: str) -> Failure:
    """A failure that the resource's schema takes, whatever a trainer or a pod has said."""
    word = reason if _REASON.fullmatch(reason) else Reason.TRAINER_FAILED
    shown = printable(message[: LONGEST_MESSAGE + 1], keep="\n\t")
    return Failure(str(word), shown if len(shown) <= LONGEST_MESSAGE else shown[:LONGEST_MESSAGE] + "...")
