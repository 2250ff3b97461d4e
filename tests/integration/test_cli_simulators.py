"""`aisandbox host-gymnasium` and `check-simulator`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aisandbox_cli.main import main
from aisandbox_cli.processes import Children
from aisandbox_environment.compliance import CheckResult
from aisandbox_environment.errors import AtCapacity
from aisandbox_environment.session import SimulatorSession
from pool_service import PoolService


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hosted CartPole with room for four environments."""
    with Children(tmp_path_factory.mktemp("simulator")) as children:
        child = children.start("host-gymnasium", "CartPole-v1", "--port", "0", "--environments", "4")
        yield str(child.wait_until_ready()["address"])


def _host(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aisandbox_cli", "host-gymnasium", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_host_gymnasium_limits_the_number_of_environments(simulator: str) -> None:
    with SimulatorSession.connect(simulator, 3) as session:
        assert [leaf.shape for leaf in session.reset([1, 2, 3]).observations] == [(3, 4)]
        with pytest.raises(AtCapacity):
            SimulatorSession.connect(simulator, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("NoSuchThing-v0",), "NoSuchThing"),
        (("CartPole-v1", "--environment-option", "gravity_of_mars=1"), "gravity_of_mars"),
        (("CartPole-v1", "--environment-option", "nothing"), "must be KEY=VALUE"),
    ],
)
def test_host_gymnasium_prints_what_gymnasium_refuses(arguments: tuple[str, ...], says: str) -> None:
    done = _host("--port", "0", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "**{}" not in done.stderr
    assert "Traceback" not in done.stderr


def test_host_gymnasium_reports_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _host("CartPole-v1", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen on"), done.stderr
    assert "add_port" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_host_gymnasium_exits_with_zero_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with Children(tmp_path) as children:
        child = children.start("host-gymnasium", "CartPole-v1", "--port", "0")
        child.wait_until_ready()
        os.kill(child.pid, number)
        assert child.wait(30) == 0


@pytest.fixture
def pool_service() -> Iterator[str]:
    service = PoolService()
    service.start()
    yield service.address
    service.stop()


def test_attached_environment_is_announced_listed_and_checked(
    pool_service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--attach", pool_service, "--pool", "arena", "--instance", "one")
    command = [sys.executable, "-m", "aisandbox_cli", "host-gymnasium", "CartPole-v1", *place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = f"The simulator CartPole-v1 is attached as one to pool arena of the service at {pool_service}."
            assert process.stdout.readline() == f"{said} Press Ctrl-C to stop it.\n"
            assert main(["simulators", "--address", pool_service]) == 0
            assert "arena  one       1             -    0" in capsys.readouterr().out
            passed = [CheckResult("first", True, "")]
            monkeypatch.setattr("aisandbox_environment.check_simulator", lambda *_, **__: passed)
            assert main(["check-simulator", "--pool", "arena", "--address", pool_service]) == 0
            assert main(["check-simulator", "127.0.0.1:1", "--address", pool_service]) == 2
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_check_simulator_passes_for_a_hosted_environment(simulator: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check-simulator", f" {simulator} ", "--json"])
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) > 5
    assert [result for result in results if not result["ok"]] == []
    assert code == 0
    rules, dry_run = results[-2:]
    assert (rules["check"], rules["skipped"]) == ("an algorithm takes the spaces", False)
    assert rules["message"].startswith("PPO, A2C, DQN, QRDQN")
    assert "; not SAC: SAC takes only Box actions" in rules["message"]
    assert (dry_run["check"], dry_run["skipped"]) == ("a model can be trained on the spaces", False)
    assert dry_run["message"].startswith("PPO, A2C, DQN, QRDQN")


@pytest.mark.parametrize(("options", "is_named"), [((), True), (("--long-idle",), False)])
def test_check_simulator_names_the_check_that_it_leaves_out(
    simulator: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    is_named: bool,
) -> None:
    monkeypatch.setattr("aisandbox_environment.check_simulator", lambda *_, **__: [CheckResult("first", True, "")])
    assert main(["check-simulator", simulator, *options]) == 0
    assert ("is checked with --long-idle" in capsys.readouterr().out) == is_named


def test_check_simulator_reports_that_no_simulator_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-simulator", "127.0.0.1:1"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no simulator answers at 127.0.0.1:1; start it first\n")


def test_check_simulator_lists_the_failed_checks_at_the_end(
    simulator: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks(*_: object, on_result: Callable[[CheckResult], None], **__: object) -> list[CheckResult]:
        advice = "expected one thing; got another. " + "Read it again. " * 6
        results = [CheckResult("first", True, ""), CheckResult("second", False, advice), CheckResult("third", True, "")]
        results.append(CheckResult("fourth", True, "not checked: no limit", skipped=True))
        for result in results:
            on_result(result)
        return results

    monkeypatch.setattr("aisandbox_environment.check_simulator", checks)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["check-simulator", simulator]) == 1
    captured = capsys.readouterr()
    stream, _, summary = captured.out.partition("2 of 3 checks passed. 1 could not be checked")
    assert [line[:4] for line in stream.splitlines()] == ["ok  ", "FAIL", "ok  ", "skip", ""]
    assert "  second\n      expected one thing; got another." in summary
    assert "first" not in summary
    assert "The rules are specified in proto/aisandbox/v1/environment.proto" in summary
    wrapped = [line for line in summary.splitlines() if line.startswith("   ")]
    assert len(wrapped) > 1
    assert max(map(len, wrapped)) <= 60
    assert captured.err == ""
