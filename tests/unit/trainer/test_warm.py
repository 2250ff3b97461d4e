"""What a fork does before it trains, and what the warm-up says of itself; whole attempts are in tests/integration."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from aisandbox_crds import Algorithm, TrainerStart, TrainingRunSpec
from aisandbox_process.fork_server import STOP_SIGNALS
from aisandbox_process.grpc_direct import choice
from aisandbox_process.grpc_direct import self_test as grpc_self_test
from aisandbox_process.passed_checks import PassedChecks
from aisandbox_trainer.run import process
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.warm import forked_attempt, warm_up
from aisandbox_trainer.warm.warm_up import WarmUp

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a fork finds itself: SIGTERM and SIGINT are blocked."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    monkeypatch.setattr(os, "environ", dict(os.environ))
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("forked")
def test_sigterm_before_the_attempt_can_handle_it_stops_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[Stop] = []

    def run(environ: dict[str, str], stop: Stop, lifeline: int) -> int:
        stops.append(stop)
        return 143

    monkeypatch.setattr(process, "run_from_environ", run)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    assert forked_attempt.run({}, parent=0) == 143
    assert stops[0].requested


@pytest.mark.usefixtures("forked")
def test_forked_attempt_gets_its_own_variables_and_the_descriptor_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def run(environ: dict[str, str], stop: Stop, lifeline: int) -> int:
        seen.update(environ=environ, lifeline=lifeline, process=os.environ["RUN_ID"])
        return 0

    monkeypatch.setattr(process, "run_from_environ", run)
    forked_attempt.run({"RUN_ID": "run-7"}, parent=42)
    assert seen == {"environ": {"RUN_ID": "run-7"}, "lifeline": 42, "process": "run-7"}


@pytest.mark.usefixtures("forked")
def test_forks_of_one_state_draw_different_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float, float]] = []

    def draw(*_: object, **__: object) -> int:
        drawn.append((random.random(), np.random.random(), float(torch.rand(1))))
        return 0

    monkeypatch.setattr(process, "run_from_environ", draw)
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        forked_attempt.run({}, parent=0)
    assert all(first != second for first, second in zip(*drawn, strict=True))


@pytest.mark.parametrize(
    ("result", "code", "text"),
    [
        (WarmUp(os.getppid(), ""), 0, ""),
        (WarmUp(os.getppid(), "No module named torch"), 1, "No module named torch\n"),
        (WarmUp(0, ""), 1, "the fork server has not loaded its preload\n"),
    ],
    ids=["warm", "failed", "loaded by the fork itself"],
)
def test_check_of_a_fork_says_whether_its_server_is_warm(
    result: WarmUp, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aisandbox_trainer.warm.preload", SimpleNamespace(WARM_UP=result))
    assert forked_attempt.check(parent=0) == code
    assert capsys.readouterr().out == text


def test_check_of_a_fork_tests_grpc_for_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts threads, so the fork server cannot; and each trainer would."""
    preload = SimpleNamespace(WARM_UP=WarmUp(os.getppid(), ""))
    monkeypatch.setitem(sys.modules, "aisandbox_trainer.warm.preload", preload)
    checks = PassedChecks()
    checks.share()
    monkeypatch.setattr(choice, "PASSED_CHECKS", checks)
    monkeypatch.setattr(choice, "_works", None)
    monkeypatch.delenv("GRPC_DIRECT", raising=False)
    assert forked_attempt.check(parent=0) == 0
    monkeypatch.setattr(choice, "_works", None)
    monkeypatch.setattr(grpc_self_test, "find_problem", lambda: pytest.fail("the self-test ran again"))
    assert choice.direct_is_used()


@pytest.fixture
def empty_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_import_trainer", "_train_small_model"):
        monkeypatch.setattr(warm_up, name, lambda: None)
    monkeypatch.setattr("gc.freeze", lambda: None)


@pytest.mark.usefixtures("empty_warm_up")
def test_warm_up_that_leaves_a_thread_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    before, done = warm_up._thread_count(), threading.Event()
    thread = threading.Thread(target=done.wait)
    monkeypatch.setattr(warm_up, "_import_trainer", thread.start)
    try:
        assert warm_up.warm_up().problem == f"the warm-up left {before + 1} threads, and a fork keeps only one"
    finally:
        done.set()
        thread.join()


@pytest.mark.usefixtures("empty_warm_up")
def test_warm_up_that_fails_gives_the_reason_and_the_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        os.write(2, b"a warning of a library\n")
        raise RuntimeError("no compiler")

    monkeypatch.setattr(warm_up, "_train_small_model", fail)
    result = warm_up.warm_up()
    assert result.pid == os.getpid()
    assert result.problem.startswith("a warning of a library\n")
    assert "RuntimeError: no compiler" in result.problem
    assert capfd.readouterr() == ("", "")


def test_secrets_are_not_in_the_environment_of_a_runs_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    seen: dict[str, str | None] = {}

    def attempt(start: TrainerStart, stop: Stop) -> int:
        seen.update(token=start.progress_token, key=start.checkpoint_key)
        seen.update((name, os.environ.get(name)) for name in ("PROGRESS_TOKEN", "CHECKPOINT_KEY"))
        return 0

    spec = TrainingRunSpec(Algorithm.PPO, 100)
    start = TrainerStart("walk", 1, spec, tmp_path, tmp_path, progress_token="secret", checkpoint_key="0f" * 32)
    monkeypatch.setattr(os, "environ", {**os.environ, **start.to_environ()})
    monkeypatch.setattr("aisandbox_trainer.run.attempt.run_attempt", attempt)
    monkeypatch.setattr("aisandbox_process.log.configure", lambda *_, **__: None)
    assert process.run_from_environ(os.environ, Stop()) == 0
    assert seen == {"token": "secret", "key": "0f" * 32, "PROGRESS_TOKEN": None, "CHECKPOINT_KEY": None}


@pytest.mark.parametrize("named", [False, True])
def test_modules_of_the_working_directory_are_found_only_if_they_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, named: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/elsewhere"])
    monkeypatch.setenv("PYTHONPATH", f"/other{os.pathsep}{tmp_path}" if named else "/other")
    process.leave_working_directory()
    assert sys.path == (["", str(tmp_path), "/elsewhere"] if named else ["/elsewhere"])


def test_working_directory_that_was_removed_stops_no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    def removed() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", removed)
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    process.leave_working_directory()
    assert "/elsewhere" in sys.path
