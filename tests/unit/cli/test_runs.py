"""`aisandbox runs`, `status`, `cancel`, `suspend` and `resume`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_cli.main import main
from aisandbox_cli.rendering import details

Status = Callable[..., pb.StatusResponse]


def test_runs_reads_every_page_up_to_the_limit(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    service.says(
        "ListTrainingRuns",
        pb.ListTrainingRunsResponse(runs=[status(run_id="a"), status(run_id="b")], next_page_token="more"),
        pb.ListTrainingRunsResponse(runs=[status(run_id="c")], next_page_token="more"),
    )
    assert main(["runs", "--experiment", "exp", "--phase", "Running", "--limit", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "a", "b", "c"]
    first, second = service.requests("ListTrainingRuns")
    assert (first.experiment_id, list(first.phases), first.page_size) == ("exp", [pb.PHASE_RUNNING], 3)
    assert (second.page_token, second.page_size) == ("more", 1)


def test_runs_as_json_is_one_run_a_line(service: Any, status: Status, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("ListTrainingRuns", pb.ListTrainingRunsResponse(runs=[status(run_id="a"), status(run_id="b")]))
    assert main(["runs", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["runId"] for item in found] == ["a", "b"]
    assert found[0]["phase"] == "PHASE_RUNNING"


def test_runs_without_runs_prints_how_to_start_one(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("ListTrainingRuns", pb.ListTrainingRunsResponse())
    assert main(["runs"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "aisandbox train" in captured.err


def test_status_shows_why_a_run_failed(service: Any, status: Status, capsys: pytest.CaptureFixture[str]) -> None:
    failure = pb.Failure(reason="SimulatorUnreachable", message="Nobody at 127.0.0.1:9.")
    service.says("GetTrainingStatus", status("FAILED", failure=failure, restarts=2, timesteps_lost=640))
    assert main(["status", "exp-1"]) == 0
    out = capsys.readouterr().out
    assert "SimulatorUnreachable: Nobody at 127.0.0.1:9." in out
    assert "2, 640 timesteps lost" in out


@pytest.mark.parametrize(
    ("command", "call", "phase"),
    [
        ("cancel", "CancelTraining", "CANCELLED"),
        ("suspend", "SuspendTraining", "SUSPENDED"),
        ("resume", "ResumeTraining", "PENDING"),
    ],
)
def test_commands_about_runs_accept_several(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str], command: str, call: str, phase: str
) -> None:
    service.says(call, status(phase), status(phase))
    assert main([command, "a", "b"]) == 0
    assert [request.run_id for request in service.requests(call)] == ["a", "b"]
    assert capsys.readouterr().out.count(phase.capitalize()) == 2


@pytest.mark.parametrize(
    ("command", "call", "says", "way"),
    [
        ("cancel", "CancelTraining", "Cancelling exp-1", "aisandbox watch exp-1"),
        ("suspend", "SuspendTraining", "Suspending exp-1", "aisandbox status exp-1"),
    ],
)
def test_commands_about_runs_print_the_next_step(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str], command: str, call: str, says: str, way: str
) -> None:
    service.says(call, status("RUNNING"))
    assert main([command, "exp-1"]) == 0
    out = capsys.readouterr().out
    assert says in out
    assert way in out
    assert "Running" not in out


def test_cancel_of_a_run_that_is_done_fails_with_the_message_of_the_service(
    service: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service.says("CancelTraining", service.refusal(grpc.StatusCode.FAILED_PRECONDITION, "run 'a' has succeeded"))
    assert main(["cancel", "a"]) == 1
    assert capsys.readouterr().err == "error: run 'a' has succeeded (FAILED_PRECONDITION)\n"


def test_status_names_the_owner_where_there_is_one() -> None:
    owned = dict(details(pb.StatusResponse(run_id="walk", algorithm=pb.ALGORITHM_PPO, owner="alice")))
    assert owned["owner"] == "alice"
    assert "owner" not in dict(details(pb.StatusResponse(run_id="walk", algorithm=pb.ALGORITHM_PPO)))
