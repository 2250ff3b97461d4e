"""An attempt as a process: signals, log, and the variables it is started with. Must not know training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.trainer_exit import ExitCode, TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_process import log as logs

from aisandbox_trainer.runtime.stop import Stop, stop_at_end_of

log = structlog.get_logger(__name__)


def run_from_environ(environ: Mapping[str, str], stop: Stop, lifeline: int | None = None) -> int:
    """One attempt; the result is the exit code.

    ``stop`` is installed already, so that no signal is lost. ``lifeline`` is a descriptor whose end means that the
    parent is gone; with STOP_WITH_PARENT it is stdin.
    """
    try:
        start = TrainerStart.from_environ(environ)
    except InvalidRun as error:
        logs.configure("info")
        log.error("not started", error=str(error))
        _leave_message(environ, error)
        return int(ExitCode.PERMANENT)
    logs.configure(start.log_level, run=start.run_id)
    if lifeline is None and start.stop_with_parent:
        lifeline = 0
    if lifeline is not None:
        stop_at_end_of(lifeline)
    from aisandbox_trainer.run.attempt import run_attempt  # a second or two of imports

    return int(run_attempt(start, stop))


def _leave_message(environ: Mapping[str, str], error: InvalidRun) -> None:
    from aisandbox_crds.status import Failure

    if path := environ.get("TERMINATION_MESSAGE_PATH"):
        message = TerminationMessage(0, int(ExitCode.PERMANENT), 0, Failure("InvalidRun", str(error)))
        try:
            Path(path).write_text(message.to_json())
        except OSError as failure:
            log.warning("termination message not written", error=str(failure))
