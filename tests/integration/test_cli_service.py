"""The command line against the real service: started, used, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_cli.connection import connect
from aisandbox_cli.main import main
from aisandbox_cli.processes import Children

posix = pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service."""
    folder = tmp_path_factory.mktemp("service")
    with Children(folder) as children:
        child = children.start("up", "--port", "0", "--models-dir", str(folder / "models"))
        yield str(child.wait_until_ready()["address"])


@pytest.fixture
def no_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a service that trains nothing: it need not load PyTorch."""
    monkeypatch.setenv("TRAINER_LAUNCHER", "process")


@pytest.fixture
def command(up: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that succeeds; returns what it printed."""
    monkeypatch.setenv("AISANDBOX_ADDRESS", up)

    def run(*arguments: str) -> str:
        code = main(arguments)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def _cartpole(*more: str) -> list[str]:
    return ["train", "ppo", "--gymnasium", "CartPole-v1", "-p", "n_steps=64", "--seed", "1", *more]


def test_commands_agree_about_a_run(command: Callable[..., str], tmp_path: Path) -> None:
    lines = command(*_cartpole("-t", "512", "--experiment", "story", "--json", "--evaluate-episodes", "2")).splitlines()
    run, last = json.loads(lines[0])["runId"], json.loads(lines[-1])
    assert last["phase"] == "PHASE_SUCCEEDED"
    assert int(last["timestepsDone"]) >= 512
    assert run in command("runs", "--experiment", "story", "--phase", "succeeded")
    assert command("runs", "--experiment", "another", "--json") == ""
    assert json.loads(command("status", run, "--json"))["runId"] == run
    assert "Succeeded" in command("watch", run)

    answer = json.loads(command("act", run, "0.01", "-0.02", "0.03", "0.04", "--json"))
    assert answer["action"] in ([0.0], [1.0])
    described = json.loads(command("model", run, "-o", str(tmp_path / "policy.onnx"), "--json"))
    assert described["model"] == answer["model"]
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    observation = np.array([[0.01, -0.02, 0.03, 0.04]], dtype=np.float32)
    assert session.run(["action"], {"observation": observation})[0].tolist() == [int(answer["action"][0])]


def test_act_reads_a_pipe(command: Callable[..., str], up: str) -> None:
    run = command(*_cartpole("-t", "128", "--detach")).strip()
    command("watch", run)
    piped = subprocess.run(
        [sys.executable, "-m", "aisandbox_cli", "act", run, "--address", up],
        input="0.01 0.02 0.03 0.04\n[0, 0, 0]\n0,0,0,0\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, second, third, _ = piped.stdout.split("\n")
    assert piped.returncode == 1
    assert second == ""
    assert {first, third} <= {"0", "1"}
    assert "line 2: observation" in piped.stderr


def test_a_wrong_hyperparameter_is_refused_in_one_line(
    up: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AISANDBOX_ADDRESS", up)
    assert main(_cartpole("-p", "gama=0.9")) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "hyperparameters.gama" in err
    assert "gamma" in err


@pytest.mark.parametrize(
    "arguments", [("act", "unknown-run", "1"), ("watch", "unknown-run"), ("cancel", "unknown-run")]
)
def test_an_unknown_run_is_named(
    up: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AISANDBOX_ADDRESS", up)
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "unknown-run" in err
    assert "NOT_FOUND" in err


def test_a_run_is_suspended_resumed_and_cancelled(command: Callable[..., str]) -> None:
    run = command(*_cartpole("-t", "1e7", "--detach")).strip()
    try:
        command("suspend", run)
        assert _phase_becomes(command, run, "PHASE_SUSPENDED")
        command("resume", run)
        assert _phase_becomes(command, run, "PHASE_RUNNING")
    finally:
        command("cancel", run)
    assert _phase_becomes(command, run, "PHASE_CANCELLED")
    assert main(["watch", run]) == 1


def test_up_reports_a_port_in_use_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _up("--port", str(taken.getsockname()[1]), "--models-dir", str(tmp_path / "models"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen on"), done.stderr
    assert "GRPC_PORT is the option --port)" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("package", ["aisandbox_api", "aisandbox_inference"])
def test_a_server_of_its_own_on_a_port_in_use_fails_with_one_line(tmp_path: Path, package: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {**os.environ, "GRPC_PORT": str(taken.getsockname()[1]), "MODELS_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", package], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode != 0
    assert "cannot listen" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_up_reports_a_folder_in_use_in_one_line(tmp_path: Path, no_fork_server: None) -> None:
    with Children(tmp_path) as children:
        children.start("up", "--port", "0", "--models-dir", str(tmp_path / "models")).wait_until_ready()
        done = _up("--port", "0", "--models-dir", str(tmp_path / "models"))
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "(MODELS_DIR is the option --models-dir)" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("option", [("--log-level", "loud"), ("--models-dir", "/dev/null/models")])
def test_up_names_an_invalid_setting(tmp_path: Path, option: tuple[str, str]) -> None:
    done = _up("--port", "0", "--models-dir", str(tmp_path), *option)
    assert done.returncode == 1
    assert option[0].removeprefix("--").replace("-", "_").upper() in done.stderr


@posix
def test_watch_continues_when_the_service_is_restarted(tmp_path: Path) -> None:
    port = _free_port()
    address, options = f"127.0.0.1:{port}", ("up", "--port", str(port), "--models-dir", str(tmp_path / "models"))
    with Children(tmp_path) as children:
        first = children.start(*options)
        first.wait_until_ready()
        arguments = _cartpole("-t", "1e7", "--checkpoint-every", "512", "--address", address, "--json")
        follower = subprocess.Popen(
            [sys.executable, "-m", "aisandbox_cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert follower.stdout is not None
        run = json.loads(follower.stdout.readline())["runId"]
        before = _read_until(follower, lambda status: bool(status.get("latestCheckpoint")))
        first.stop()
        children.start(*options).wait_until_ready()
        after = _read_until(
            follower, lambda status: status["phase"] == "PHASE_RUNNING" and bool(status.get("resumedFrom"))
        )
        assert int(after["resumedFrom"]["timesteps"]) >= int(before["latestCheckpoint"]["timesteps"])
        assert main(["cancel", run, "--address", address]) == 0
        assert follower.wait(60) == 1
        assert "connection to the service lost" in (follower.stderr.read() if follower.stderr else "")


@posix
def test_ctrl_c_does_not_stop_the_training(up: str) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "aisandbox_cli", *_cartpole("-t", "1e7", "--address", up, "--json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    run = json.loads(follower.stdout.readline())["runId"]
    try:
        _read_until(follower, lambda status: status["phase"] == "PHASE_RUNNING")
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate(timeout=30)
        assert follower.returncode == 130
        assert f" watch {run} --address {up}" in err
        with connect(up) as service:
            assert service.stub.GetTrainingStatus(pb.StatusRequest(run_id=run)).phase == pb.PHASE_RUNNING
    finally:
        assert main(["cancel", run, "--address", up]) == 0


@posix
def test_up_exits_with_zero_on_sigterm(tmp_path: Path, no_fork_server: None) -> None:
    with Children(tmp_path) as children:
        child = children.start("up", "--port", "0", "--models-dir", str(tmp_path / "models"))
        child.wait_until_ready()
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(60) == 0


def _up(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aisandbox_cli", "up", *options], capture_output=True, text=True, timeout=60, check=False
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _read_until(follower: subprocess.Popen[str], condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    assert follower.stdout is not None
    for line in follower.stdout:
        status = json.loads(line)
        if condition(status):
            return dict(status)
    raise AssertionError(f"the stream ended first: {follower.stderr.read() if follower.stderr else ''}")


def _phase_becomes(command: Callable[..., str], run: str, phase: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if json.loads(command("status", run, "--json"))["phase"] == phase:
            return True
        time.sleep(0.05)
    return False
