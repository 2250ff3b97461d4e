"""The trainer as processes: one attempt alone, and a warm process that forks attempts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aisandbox_crds.spec import Algorithm, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import RunStore

ENDLESS = 10**9


def _start(folder: Path, run_id: str, total: int, stop_with_parent: bool = False) -> dict[str, str]:
    spec = TrainingRunSpec(
        algorithm=Algorithm.PPO,
        total_timesteps=total,
        environment=GymnasiumEnvironment("CartPole-v1"),
        seed=1,
        hyperparameters={"n_steps": "64", "batch_size": "64", "n_epochs": "1"},
    )
    return TrainerStart(
        run_id=run_id,
        attempt=1,
        spec=spec,
        models_dir=folder,
        checkpoint_dir=folder,
        termination_message_path=folder / f"{run_id}.message",
        stop_with_parent=stop_with_parent,
    ).to_environ()


def _wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return result


def _training(folder: Path, run_id: str) -> bool:
    """The TensorBoard file comes with the first update."""
    logs = RunStore(folder).run(run_id).logs_path
    return logs.is_dir() and any(logs.iterdir())


def _run(folder: Path, run_id: str, **start: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aisandbox_trainer", "run"],
        env={**os.environ, **_start(folder, run_id, ENDLESS, **start)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_run_saves_at_sigterm_and_says_it_was_stopped(tmp_path: Path) -> None:
    with _run(tmp_path, "alone") as process:
        _wait_until(lambda: _training(tmp_path, "alone"))
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 143
    message = TerminationMessage.from_json((tmp_path / "alone.message").read_text())
    checkpoint = RunStore(tmp_path).run("alone").newest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.timesteps == message.timesteps > 0
    assert checkpoint.timesteps % 64 == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["run"] for line in lines} == {"alone"}


def test_run_stops_with_its_parent(tmp_path: Path) -> None:
    with _run(tmp_path, "child", stop_with_parent=True) as process:
        _wait_until(lambda: _training(tmp_path, "child"))
        process.communicate(timeout=30)  # closes stdin
    assert process.returncode == 143


def test_run_refuses_a_start_it_cannot_read(tmp_path: Path) -> None:
    environ = {**os.environ, **_start(tmp_path, "bad", 10), "RUN_SPEC": '{"algorithm": "SAC"}'}
    process = subprocess.run(
        [sys.executable, "-m", "aisandbox_trainer", "run"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 78
    failure = TerminationMessage.from_json((tmp_path / "bad.message").read_text()).failure
    assert failure is not None
    assert "algorithm" in failure.message


def test_help_teaches_without_importing_torch() -> None:
    code = (
        "import sys; from aisandbox_trainer.__main__ import main\n"
        "try: main(['warm', '--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert '"exit_code"' in process.stdout
    assert process.stdout.splitlines()[-1] == "False"


class Warm:
    """A warm process, spoken to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aisandbox_trainer", "warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, run_id: str, total: int) -> None:
        request = {
            "id": run_id,
            "environ": _start(self.folder, run_id, total),
            "log_path": str(self.folder / f"{run_id}.log"),
        }
        self.write(json.dumps(request))

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))


def _warm(folder: Path) -> Iterator[Warm]:
    warm = Warm(folder)
    try:
        assert warm.answer() == {"ready": True}
        yield warm
    finally:
        warm.process.kill()
        warm.process.communicate()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    yield from _warm(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Warm]:
    """One that the test ends."""
    yield from _warm(tmp_path)


def test_warm_process_forks_attempts_and_tells_how_they_end(warm: Warm) -> None:
    warm.ask("quick", 128)
    began = warm.answer()
    ended = warm.answer()
    assert began["id"] == "quick"
    assert ended == {"id": "quick", "pid": began["pid"], "exit_code": 0}
    assert RunStore(warm.folder).run("quick").model("final").timesteps == 128
    lines = [json.loads(line) for line in (warm.folder / "quick.log").read_text().splitlines()]
    assert lines[-1]["event"] == "attempt ended"


def test_warm_process_survives_requests_it_cannot_serve(warm: Warm) -> None:
    warm.write("no json")
    assert "error" in warm.answer()
    warm.write(json.dumps({"id": "x", "environ": {}, "log_path": "/nowhere/at/all"}))
    assert warm.answer()["id"] == "x"
    warm.ask("after", 64)
    assert "pid" in warm.answer()
    assert warm.answer()["exit_code"] == 0


def test_warm_process_tells_of_a_child_that_was_killed(warm: Warm) -> None:
    warm.ask("killed", ENDLESS)
    pid = warm.answer()["pid"]
    os.kill(pid, signal.SIGKILL)
    assert warm.answer() == {"id": "killed", "pid": pid, "exit_code": 137}


def test_warm_process_stops_its_children_at_the_end_of_its_input(ending: Warm) -> None:
    for run_id in ("one", "two"):
        ending.ask(run_id, ENDLESS)
        ending.answer()
    for run_id in ("one", "two"):
        _wait_until(lambda run_id=run_id: _training(ending.folder, run_id))  # type: ignore[misc]
    output, errors = ending.process.communicate(timeout=30)
    ends = [json.loads(line) for line in output.splitlines()]
    assert {end["id"]: end["exit_code"] for end in ends} == {"one": 143, "two": 143}
    assert ending.process.returncode == 0
    assert errors == ""


def test_children_stop_when_the_warm_process_is_killed(ending: Warm) -> None:
    ending.ask("orphan", ENDLESS)
    ending.answer()
    _wait_until(lambda: _training(ending.folder, "orphan"))
    ending.process.kill()
    message = ending.folder / "orphan.message"
    _wait_until(message.exists)
    _wait_until(lambda: message.read_text().endswith("}"))
    assert TerminationMessage.from_json(message.read_text()).exit_code == 143


def test_forks_draw_different_random_numbers() -> None:
    code = (
        "import os, sys, numpy, torch\n"
        "from aisandbox_trainer.run import process\nfrom aisandbox_trainer.warm import fork_server\n"
        "process.run_from_environ = lambda *_: numpy.random.randint(1, 2**30) % 251 + 1\n"
        "forks = fork_server._Forks()\n"
        "null = os.open(os.devnull, os.O_WRONLY)\n"
        "pids = [forks._fork(str(i), {}, null) for i in range(6)]\n"
        "print(len({os.waitpid(pid, 0)[1] for pid in pids}))\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert int(process.stdout) > 1, process.stderr
