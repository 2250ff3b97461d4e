import errno
from pathlib import Path

import pytest
from aisandbox_crds.errors import FieldError, InvalidRun
from aisandbox_crds.trainer_exit import ExitCode
from aisandbox_model_store import DiskFull, Fenced
from aisandbox_trainer.errors import NonFiniteTraining, SimulatorGone, StopRequested, UnsupportedActionSpace
from aisandbox_trainer.run.exit_status import exit_status_of


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidRun([FieldError("hyperparameters.gamma", "must be at most 1")]), 78, "InvalidHyperparameter"),
        (UnsupportedActionSpace("no"), 78, "UnsupportedActionSpace"),
        (NonFiniteTraining("NaN"), 78, "NonFiniteTraining"),
        (SimulatorGone("gone"), 75, "SimulatorUnreachable"),
        (Fenced(1, 2), 75, "Fenced"),
        (DiskFull(Path("x")), 75, "DiskFull"),
        (OSError(errno.ENOSPC, "no space"), 75, "DiskFull"),
        (MemoryError(), 75, "OutOfMemory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 75, "OutOfMemory"),
        (RuntimeError("surprise"), 75, "Internal"),
    ],
)
def test_ending_has_the_code_and_reason_of_its_error(error: Exception, code: int, reason: str) -> None:
    ending = exit_status_of(error)
    assert ending.code == code
    assert ending.failure is not None
    assert ending.failure.reason == reason
    assert ending.failure.message


def test_ending_of_a_stop_is_no_failure() -> None:
    assert exit_status_of(StopRequested()).code == ExitCode.CANCELLED
    assert exit_status_of(StopRequested()).failure is None


def test_ending_of_the_unknown_names_the_type() -> None:
    failure = exit_status_of(KeyError("x")).failure
    assert failure is not None
    assert failure.message.startswith("KeyError")
