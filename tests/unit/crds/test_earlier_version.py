"""The record and the termination message of earlier versions."""

import json
from pathlib import Path

from aisandbox_crds import Phase, TerminationMessage, run_from_json, run_to_json, validate_spec

DATA = Path(__file__).parent / "data"
"""Of one run, suspended by a stop of the service, of commit a6e9a5c."""


def test_record_of_an_earlier_version_is_read_and_written_alike() -> None:
    data = json.loads((DATA / "trainingrun.json").read_text())
    run = run_from_json(data)
    validate_spec(run.spec)
    assert run.status.phase is Phase.PENDING
    assert run.status.progress is not None
    assert run.status.progress.timesteps == 17500
    assert run_to_json(run) == data


def test_termination_message_of_an_earlier_version_is_read_and_written_alike() -> None:
    text = (DATA / "termination-message-1.json").read_text()
    message = TerminationMessage.from_json(text)
    assert (message.exit_code, message.timesteps) == (143, 17500)
    assert json.loads(message.to_json()) == json.loads(text)
