"""The trainer as processes: one attempt alone, and attempts forked from a warm fork server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api.local.launcher import TRAINER_COMMAND
from aisandbox_api.local.warm_launcher import TrainerProgram
from aisandbox_crds.spec import Algorithm, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import RunStore
from aisandbox_process.fork_server import ForkedProcess, ForkServer

ENDLESS = 10**9
PROGRAM = TrainerProgram()


def _start(
    folder: Path, run_id: str, total: int, stop_with_parent: bool = False, environment: str = "CartPole-v1"
) -> dict[str, str]:
    spec = TrainingRunSpec(
        algorithm=Algorithm.PPO,
        total_timesteps=total,
        environment=GymnasiumEnvironment(environment),
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


def _wait_until(condition: Callable[[], Any], seconds: float = 150) -> Any:
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


def test_run_saves_at_sigterm_and_reports_that_it_was_stopped(tmp_path: Path) -> None:
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
        process.communicate(timeout=100)  # closes stdin
    assert process.returncode == 143


def test_run_refuses_a_start_it_cannot_read(tmp_path: Path) -> None:
    environ = {**os.environ, **_start(tmp_path, "bad", 10), "RUN_SPEC": '{"algorithm": "DDPG"}'}
    process = subprocess.run(
        [sys.executable, "-m", "aisandbox_trainer", "run"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 78
    failure = TerminationMessage.from_json((tmp_path / "bad.message").read_text()).failure
    assert failure is not None
    assert "algorithm" in failure.message


def test_help_is_printed_without_importing_torch() -> None:
    code = (
        "import sys; from aisandbox_trainer.__main__ import main\n"
        "try: main(['run', '--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "TERMINATION_MESSAGE_PATH" in process.stdout
    assert process.stdout.splitlines()[-1] == "False"


class WarmServer:
    """A fork server with the trainer's preload, as the api-server has one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ForkServer([PROGRAM.preload])
        (folder / "planted.py").write_text("raise SystemExit('planted code was run')")
        with contextlib.chdir(folder):  # the service's working directory
            self.server.start()
        self.ended = threading.Thread(target=self.server.wait)
        self.ended.start()

    def fork(self, function: str, *arguments: object, log: str) -> ForkedProcess:
        with (self.folder / log).open("ab") as output:
            return self.server.fork(function, arguments, output.fileno())

    def run(self, run_id: str, total: int, environment: str = "CartPole-v1") -> ForkedProcess:
        return self.fork(PROGRAM.run, _start(self.folder, run_id, total, environment=environment), log=f"{run_id}.log")

    def message(self, run_id: str) -> TerminationMessage:
        path = self.folder / f"{run_id}.message"
        _wait_until(lambda: path.exists() and path.read_text().endswith("}"))
        return TerminationMessage.from_json(path.read_text())

    def close(self) -> None:
        self.server.kill()
        self.ended.join()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmServer]:
    warm = WarmServer(tmp_path_factory.mktemp("warm"))
    yield warm
    warm.close()


def test_fork_server_is_warm_once_it_answers(warm: WarmServer) -> None:
    code = warm.fork(PROGRAM.check, log="check.log").read_exit_code()
    assert code == 0, (warm.folder / "check.log").read_text()


def test_forked_attempt_trains_to_its_end(warm: WarmServer) -> None:
    assert warm.run("quick", 128).read_exit_code() == 0
    assert RunStore(warm.folder).run("quick").model("final").timesteps == 128
    lines = [json.loads(line) for line in (warm.folder / "quick.log").read_text().splitlines()]
    assert lines[-1]["event"] == "attempt ended"


def test_forked_attempt_imports_no_module_of_the_services_working_directory(warm: WarmServer) -> None:
    assert warm.run("planted", 128, "planted:Own-v0").read_exit_code() == 78
    failure = warm.message("planted").failure
    assert failure is not None
    assert "No module named 'planted'" in failure.message


def test_new_process_of_a_trainer_imports_no_module_of_its_working_directory(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("")
    command = [*TRAINER_COMMAND[: TRAINER_COMMAND.index("-m")], "-c", "import planted"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "No module named 'planted'" in process.stderr


def test_forked_attempt_that_was_killed_has_the_exit_code_of_its_signal(warm: WarmServer) -> None:
    attempt = warm.run("killed", ENDLESS)
    os.kill(attempt.pid, signal.SIGKILL)
    assert attempt.read_exit_code() == 137


def test_forked_attempt_saves_at_sigterm(warm: WarmServer) -> None:
    attempt = warm.run("stopped", ENDLESS)
    _wait_until(lambda: _training(warm.folder, "stopped"))
    os.kill(attempt.pid, signal.SIGTERM)
    assert attempt.read_exit_code() == 143
    assert warm.message("stopped").timesteps > 0


def test_forked_attempt_stops_when_the_service_is_gone(warm: WarmServer) -> None:
    attempt = warm.run("orphan", ENDLESS)
    _wait_until(lambda: _training(warm.folder, "orphan"))
    attempt.close()
    assert warm.message("orphan").exit_code == 143


def test_forked_attempt_continues_after_the_fork_server_was_killed(warm: WarmServer) -> None:
    """The last test of the module: it ends the fork server."""
    attempt = warm.run("survivor", 5_000)
    _wait_until(lambda: _training(warm.folder, "survivor"))
    warm.close()
    assert attempt.read_exit_code() is None
    assert warm.message("survivor").exit_code == 0
    attempt.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_attempts_draw_different_random_numbers() -> None:
    code = (
        "import os, random, numpy, torch\n"
        "from aisandbox_trainer.run import process\n"
        "from aisandbox_trainer.warm import forked_attempt\n"
        "draws = {'random': lambda: random.randrange(251), 'numpy': lambda: numpy.random.randint(251),\n"
        "         'torch': lambda: int(torch.randint(251, (1,)))}\n"
        "process.run_from_environ = lambda environ, *_, **__: draws[environ['OF']]()\n"
        "def fork(of):\n"
        "    pid = os.fork()\n"
        "    return pid or os._exit(forked_attempt.run({'OF': of}, -1))\n"
        "def exit_codes(of):\n"
        "    return {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [fork(of) for _ in range(6)]}\n"
        "print(*[of for of in draws if len(exit_codes(of)) > 1])\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150)
    assert process.stdout.split() == ["random", "numpy", "torch"], process.stderr
