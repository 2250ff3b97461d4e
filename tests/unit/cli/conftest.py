"""A service in this process whose answers a test scripts."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

CALLS = (
    "StartTraining",
    "StartTrainingPPO",
    "StartTrainingDQN",
    "GetTrainingStatus",
    "ListTrainingRuns",
    "CancelTraining",
    "SuspendTraining",
    "ResumeTraining",
    "Act",
    "DescribeModel",
    "WhoAmI",
)


class Refusal(Exception):
    """Ends a call with a status."""

    def __init__(self, code: grpc.StatusCode, message: str, **violations: str) -> None:
        super().__init__(message)
        self.code = code
        self.violations = violations


class Script(rpc.PolicyTrainerServiceServicer):
    """Answers each call with the next answer scripted for it: a message, a list of messages or a Refusal."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Any]] = []
        self.answers: dict[str, queue.SimpleQueue[Any]] = {}
        self.address = ""
        for name in CALLS:
            setattr(self, name, self._unary(name))

    def says(self, call: str, *answers: Any) -> None:
        for answer in answers:
            self.answers.setdefault(call, queue.SimpleQueue()).put(answer)

    def refusal(self, code: grpc.StatusCode, message: str, **violations: str) -> Refusal:
        return Refusal(code, message, **violations)

    def requests(self, call: str) -> list[Any]:
        return [request for name, request in self.received if name == call]

    def _unary(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            return self._next(name, request, context)

        return answer

    def _next(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.received.append((name, request))
        answer = self.answers[name].get(timeout=60)
        if isinstance(answer, Refusal):
            refuse(answer, context)
        return answer

    def WatchTraining(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for answer in self._next("WatchTraining", request, context):
            if isinstance(answer, Refusal):
                refuse(answer, context)
            yield answer

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self._next("GetModel", request, context)

    def ActStream(self, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield self._next("ActStream", request, context)


def refuse(refusal: Refusal, context: grpc.ServicerContext) -> None:
    detail = any_pb2.Any()
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=field.replace("__", "."), description=rule)
        for field, rule in refusal.violations.items()
    ]
    detail.Pack(error_details_pb2.BadRequest(field_violations=violations))
    status = status_pb2.Status(code=refusal.code.value[0], message=str(refusal), details=[detail] if violations else [])
    context.abort_with_status(rpc_status.to_status(status))


@pytest.fixture
def service() -> Iterator[Script]:
    script = Script()  # type: ignore[abstract]  # its calls are set by name
    server = grpc.server(futures.ThreadPoolExecutor(4))
    rpc.add_PolicyTrainerServiceServicer_to_server(script, server)
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield script
    server.stop(0).wait()


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Commands of a test connect to its service, or to a port without a server."""
    address = request.getfixturevalue("service").address if "service" in request.fixturenames else "127.0.0.1:1"
    monkeypatch.setenv("AISANDBOX_ADDRESS", address)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def status() -> Callable[..., pb.StatusResponse]:
    """Makes a status with the fields a test cares about."""

    def make(phase: str = "RUNNING", done: int = 500, **fields: Any) -> pb.StatusResponse:
        ended = phase in ("SUCCEEDED", "FAILED", "CANCELLED")
        return pb.StatusResponse(
            **{
                "run_id": "exp-1",
                "experiment_id": "exp",
                "algorithm": pb.ALGORITHM_PPO,
                "phase": pb.Phase.Value(f"PHASE_{phase}"),
                "timesteps_done": done,
                "total_timesteps": 1000,
                "is_done": ended,
                **fields,
            }
        )

    return make
