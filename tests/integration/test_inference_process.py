"""The inference-server as a process: what it loads, how it fails to start and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_model_store import RunStore
from onnx_policies import LinearPolicy

REQUEST = pb.ActRequest(run_id="r", observation=[0.0, 0.0, 0.0, 0.0])
FORBIDDEN = ("torch", "stable_baselines3", "cloudpickle", "gymnasium", "onnx", "aisandbox_trainer", "aisandbox_api")
SERVE_AND_TELL = """
import json, sys
import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb, policy_trainer_pb2_grpc
from aisandbox_inference import Settings, create_server
import aisandbox_inference.__main__
from pathlib import Path

server = create_server(Settings(models_dir=Path(sys.argv[1]), grpc_port=0))
server.start()
with grpc.insecure_channel(server.address) as channel:
    stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
    stub.Act(pb.ActRequest(run_id="r", observation=[0, 0, 0, 0], stochastic=True))
    stub.DescribeModel(pb.DescribeModelRequest(run_id="r"))
server.stop(0)
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    writer = RunStore(tmp_path).run("r").claim(1)
    writer.point("latest", writer.publish_model(100, LinearPolicy().files()))
    return tmp_path


@pytest.fixture
def process(models_dir: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(models_dir, GRPC_PORT="0")
    yield process
    process.kill()
    process.communicate()


def start(models_dir: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aisandbox_inference"],
        env={**os.environ, "MODELS_DIR": str(models_dir), **environ},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)  # a server whose stderr is no terminal logs JSON lines only
        if event["event"] == "serving":
            return str(event["address"])
    raise AssertionError("the server ended before it served")


def test_server_process_loads_no_training_libraries(models_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE_AND_TELL, str(models_dir)], capture_output=True, text=True, timeout=120, check=True
    )
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "onnxruntime" in modules
    assert modules.isdisjoint(FORBIDDEN)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_process_stops_on_a_signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with grpc.insecure_channel(address_of(process)) as channel:
        stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        assert stub.Act(REQUEST, timeout=60).model_timesteps == 100
        process.send_signal(number)
        assert process.wait(60) == 0
        with pytest.raises(grpc.RpcError):
            stub.Act(REQUEST, timeout=60)


def test_second_process_on_a_port_fails_and_names_it(process: subprocess.Popen[str], models_dir: Path) -> None:
    port = address_of(process).rpartition(":")[2]
    second = start(models_dir, GRPC_PORT=port)
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in stderr.splitlines()[-1]


def test_port_in_use_by_another_program_is_an_error(models_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(models_dir, GRPC_PORT=str(taken.getsockname()[1]))
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Change GRPC_PORT" in stderr


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"GRPC_PORT": "http"}, "GRPC_PORT: must be a whole number from 0 to 65535, got 'http'"),
        ({"MODELS_DIR": "/no/such/folder"}, "MODELS_DIR: must be an existing folder"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: must be one of"),
    ],
)
def test_setting_that_breaks_a_rule_ends_the_process_at_once(
    models_dir: Path, environ: dict[str, str], text: str
) -> None:
    process = start(models_dir, **{"GRPC_PORT": "0", **environ})
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("aisandbox-inference: ")
    assert text in stderr
    assert "Traceback" not in stderr
