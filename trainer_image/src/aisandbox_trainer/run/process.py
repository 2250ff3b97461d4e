"""An attempt as a process: signals, log, and the variables it is started with. Must not know training.

Must stay free of heavy imports: what native libraries read when they are imported is set here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
from aisandbox_crds import SECRET_VARIABLES, ExitCode, InvalidRun, Reason, TerminationMessage, TrainerStart
from aisandbox_process import log as logs
from aisandbox_process import set_up_grpc

from aisandbox_trainer.runtime.stop import Stop, stop_at_end_of

log = structlog.get_logger(__name__)


def set_up_native_libraries() -> None:
    """To be called before NumPy, PyTorch or gRPC is imported."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime's
    limit_native_threads()
    set_up_grpc(few_connections=True)


def leave_working_directory() -> None:
    """Has no module imported from the working directory, as ``python -P``, unless PYTHONPATH names it.

    It is the service's: whatever is there could be named as an environment's module.
    """
    named = {os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each}
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return  # it was removed: nothing is found there
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here or here in named]


def limit_native_threads() -> None:
    """One thread for OpenBLAS and OpenMP unless set otherwise.

    Runs share a machine, and a fork must find no threads. PyTorch's own number is set later, for the policy at hand.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def run_from_environ(environ: Mapping[str, str], stop: Stop, lifeline: int | None = None) -> int:
    """One attempt; the result is the exit code.

    ``stop`` is installed already, so that no signal is lost. ``lifeline`` is a descriptor whose end means that the
    parent is gone; with STOP_WITH_PARENT it is stdin. What of the variables is secret is removed from ``os.environ``:
    what the run starts does not inherit it.
    """
    try:
        start = TrainerStart.from_environ(environ)
        for name in SECRET_VARIABLES:
            os.environ.pop(name, None)
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
    from aisandbox_crds import Failure

    if path := environ.get("TERMINATION_MESSAGE_PATH"):
        message = TerminationMessage(
            0, 0, exit_code=int(ExitCode.PERMANENT), failure=Failure(Reason.INVALID_RUN, str(error))
        )
        try:
            Path(path).write_text(message.to_json())
        except OSError as failure:
            log.warning("termination message not written", error=str(failure))
