from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from aisandbox_crds.errors import FieldError, InvalidRun
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.status_values import Failure
from aisandbox_crds.trainer_exit import MAX_BYTES, ExitCode, TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart, spec_for_trainer
from hypothesis import given
from hypothesis import strategies as st

SPEC = TrainingRunSpec(Algorithm.PPO, 1000, GymnasiumEnvironment("CartPole-v1"), seed=3)
SMALL = TrainerStart("run-1", 1, SPEC, Path("/models"), Path("/checkpoints"))
FULL = TrainerStart(
    "run-1",
    2,
    SPEC,
    Path("/models"),
    Path("/checkpoints"),
    progress_address="127.0.0.1:50051",
    progress_token="secret",
    progress_token_file=Path("/var/token"),
    progress_ca_file=Path("/var/ca.crt"),
    termination_message_path=Path("/dev/termination-log"),
    log_level="debug",
    stop_with_parent=True,
    checkpoint_key="0f" * 32,
    accept_unsigned_checkpoints=True,
)


@pytest.mark.parametrize("start", [SMALL, FULL])
def test_a_start_is_itself_after_the_environment(start: TrainerStart) -> None:
    assert TrainerStart.from_environ(start.to_environ() | {"PATH": "/bin"}) == start


def test_blanks_around_addresses_are_no_part_of_them_for_a_trainer() -> None:
    """A resource, as kubectl has applied it, and a start call give the same run."""
    text = (
        '{"algorithm": "PPO", "totalTimesteps": 9, "environment": {"grpc": {"address": "sim-0:1, dns:///sims:2\\n"}}}'
    )
    start = TrainerStart.from_environ(SMALL.to_environ() | {"RUN_SPEC": text})
    assert start.spec.environment == GrpcEnvironment("sim-0:1,dns:///sims:2")


def test_what_is_absent_is_not_in_the_environment() -> None:
    assert not {"PROGRESS_ADDRESS", "PROGRESS_TOKEN", "TERMINATION_MESSAGE_PATH"} & SMALL.to_environ().keys()


def test_checkpoints_are_with_the_models_by_default() -> None:
    environ = SMALL.to_environ()
    del environ["CHECKPOINT_DIR"]
    assert TrainerStart.from_environ(environ).checkpoint_dir == Path("/models")


def test_an_empty_environment_names_every_missing_variable() -> None:
    with pytest.raises(InvalidRun) as caught:
        TrainerStart.from_environ({})
    assert {error.field for error in caught.value.errors} == {"RUN_ID", "RUN_SPEC", "MODELS_DIR"}


def test_a_start_without_an_attempt_leaves_it_to_the_trainer() -> None:
    start = replace(SMALL, attempt=None, run_uid="8a7b")
    assert "RUN_ATTEMPT" not in start.to_environ()
    assert TrainerStart.from_environ(start.to_environ()) == start


def test_a_trainer_gets_no_scheduling_fields() -> None:
    wanted = replace(SPEC, hyperparameters={"gamma": "0.9"}, backoff_limit=5)
    told = spec_for_trainer(
        replace(
            wanted,
            suspend=True,
            cancel=True,
            ttl_seconds_after_finished=5,
            resources={"limits": {"cpu": "1"}},
            node_selector={"disk": "ssd"},
            tolerations=({"operator": "Exists"},),
            priority_class_name="low",
            labels={"team": "a"},
        )
    )
    assert told == wanted


@pytest.mark.parametrize(
    ("variable", "text", "field"),
    [
        ("RUN_ID", "../run", "RUN_ID"),
        ("RUN_ATTEMPT", "0", "RUN_ATTEMPT"),
        ("RUN_ATTEMPT", "one", "RUN_ATTEMPT"),
        ("RUN_ATTEMPT", "1" * 5000, "RUN_ATTEMPT"),
        ("RUN_SPEC", "{", "RUN_SPEC"),
        ("RUN_SPEC", "[" * 100_000, "RUN_SPEC"),
        ("RUN_SPEC", "[]", "spec"),
        ("RUN_SPEC", '{"algorithm": "PPO"}', "spec.totalTimesteps"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
        ("STOP_WITH_PARENT", "maybe", "STOP_WITH_PARENT"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str, field: str) -> None:
    with pytest.raises(InvalidRun) as caught:
        TrainerStart.from_environ(SMALL.to_environ() | {variable: text})
    assert field in [error.field for error in caught.value.errors]


@given(st.text(max_size=6000), st.text(max_size=6000))
def test_a_termination_message_always_fits(reason: str, message: str) -> None:
    written = TerminationMessage(1, 500, exit_code=ExitCode.PERMANENT, failure=Failure(reason, message)).to_json()
    assert len(written.encode()) <= MAX_BYTES
    read = TerminationMessage.from_json(written)
    assert (read.attempt, read.exit_code, read.timesteps) == (1, ExitCode.PERMANENT, 500)
    assert read.failure is not None


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", '"', "\0"])
@pytest.mark.parametrize("length", [100, 4000, 5000, 100_000])
def test_a_long_message_keeps_its_beginning(character: str, length: int) -> None:
    written = TerminationMessage(1, 0, exit_code=75, failure=Failure("SimulatorLost", character * length)).to_json()
    read = TerminationMessage.from_json(written).failure
    assert len(written) <= MAX_BYTES
    assert read is not None
    assert read.reason == "SimulatorLost"
    assert read.message.startswith(character * 100)


def test_a_message_that_fits_is_unchanged() -> None:
    message = TerminationMessage(3, 1000, exit_code=0)
    assert TerminationMessage.from_json(message.to_json()) == message


@pytest.mark.parametrize("text", ["", "killed", "[]", "{}", '{"attempt": "1"}', "[" * 100_000, '{"attempt":'])
def test_what_a_killed_trainer_may_have_left_is_refused(text: str) -> None:
    with pytest.raises(InvalidRun):
        TerminationMessage.from_json(text)


def test_errors_cross_process_boundaries() -> None:
    error = pickle.loads(pickle.dumps(InvalidRun([FieldError("seed", "is odd")])))
    assert str(error) == "seed: is odd"
    assert error.errors == (FieldError("seed", "is odd"),)


@pytest.mark.parametrize("variables", [{"CHECKPOINT_KEY": "0f"}, {"ACCEPT_UNSIGNED_CHECKPOINTS": "yes"}])
def test_a_key_that_is_none_is_refused_by_its_name(variables: dict[str, str]) -> None:
    with pytest.raises(InvalidRun, match=next(iter(variables))):
        TrainerStart.from_environ(SMALL.to_environ() | variables)
