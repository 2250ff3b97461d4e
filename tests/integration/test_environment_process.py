"""`python -m aisandbox_environment`: a simulator as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from aisandbox_environment.errors import AtCapacity
from aisandbox_environment.session import SimulatorSession
from grpc_health.v1 import health_pb2, health_pb2_grpc

COMMAND = [sys.executable, "-m", "aisandbox_environment", "host-gymnasium"]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def simulator() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A CartPole with room for two, and its address as its log says it."""
    command = [*COMMAND, "CartPole-v1", "--environments", "2", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            event = json.loads(process.stderr.readline())
            assert event["event"] == "simulator listens"
            yield process, event["address"]
        finally:
            process.kill()


def test_environment_process_has_the_capacity_it_was_given(
    simulator: tuple[subprocess.Popen[str], str],
) -> None:
    _, address = simulator
    with SimulatorSession.connect(address, 2) as session:
        assert [leaf.shape for leaf in session.reset([1, 2]).observations] == [(2, 4)]
        with pytest.raises(AtCapacity):
            SimulatorSession.connect(address, 1)


def test_environment_process_answers_the_probe_of_a_cluster(simulator: tuple[subprocess.Popen[str], str]) -> None:
    _, address = simulator
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_environment_process_stops_on_a_signal_during_a_session(
    simulator: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    process, address = simulator
    with SimulatorSession.connect(address, 1) as session:
        session.reset([1])
        process.send_signal(number)
        assert process.wait(30) == 0
    assert process.stderr is not None
    events = [json.loads(line)["event"] for line in process.stderr]
    assert events[-1] == "simulator stopped"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("NoSuchThing-v0", "--port", "0"), 2, "NoSuchThing"),
        (("CartPole-v1", "--environments", "0"), 2, "--environments: must be a whole number of at least 1, got '0'"),
        (("CartPole-v1", "--port", "65536"), 2, "--port: must be a whole number from 0 to 65535, got '65536'"),
        ((), 2, "ID"),
    ],
)
def test_environment_process_names_what_is_wrong(arguments: tuple[str, ...], code: int, says: str) -> None:
    done = _run(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_environment_process_on_a_port_in_use_reports_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _run("CartPole-v1", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen on"), done.stderr
