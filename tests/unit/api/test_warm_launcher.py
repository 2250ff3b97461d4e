"""The life of the fork server, with trainers that only end or wait."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api.errors import LaunchFailed
from aisandbox_api.local.launcher import Trainer
from aisandbox_api.local.warm_launcher import TrainerProgram, WarmLauncher
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_start import TrainerStart

SUPPORT = Path(__file__).parents[2] / "support"
MORE_THAN_A_PIPE_TAKES = "x" * 1_000_000
ENDING = TrainerProgram("forked_functions", "forked_functions:check", "forked_functions:run_and_end_with_code_of")
RUNNING = TrainerProgram("forked_functions", "forked_functions:check", "forked_functions:run_until_stopped")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(SUPPORT), os.environ.get("PYTHONPATH", ""))))


class Fallback:
    """Notes that it was used."""

    def __init__(self) -> None:
        self.launched = asyncio.Event()

    async def start(self) -> None: ...
    async def ready(self) -> None: ...
    async def close(self) -> None: ...

    async def launch(self, start: TrainerStart, log_path: Path) -> Trainer:
        self.launched.set()
        raise LaunchFailed("the fallback starts nothing here")


@asynccontextmanager
async def launching(program: TrainerProgram, fallback: Fallback | None = None) -> AsyncIterator[WarmLauncher]:
    launcher = WarmLauncher(fallback or Fallback(), program, pause_seconds=0.01)
    await launcher.start()
    try:
        async with asyncio.timeout(60):
            yield launcher
    finally:
        await launcher.close()


def start_of(folder: Path, attempt: int = 1, **options: Any) -> TrainerStart:
    return TrainerStart("run-1", attempt, TrainingRunSpec(Algorithm.PPO, 100, **options), folder, folder)


async def until_logged(log: Path, text: str) -> None:
    """``text`` is in the log; "" is as soon as there is one."""
    while not (log.exists() and text in log.read_text()):  # noqa: ASYNC110, ASYNC240 - of another process, and small
        await asyncio.sleep(0.01)


async def replaced(launcher: WarmLauncher, pid: int | None) -> None:
    while launcher.pid in (None, pid):  # noqa: ASYNC110 - the launcher tells only its first readiness
        await asyncio.sleep(0.01)


async def test_trainer_that_ends_as_soon_as_it_is_forked_has_its_exit_code(tmp_path: Path) -> None:
    async with launching(ENDING) as launcher:
        for attempt in range(1, 30):
            assert await (await launcher.launch(start_of(tmp_path, attempt), tmp_path / "log")).wait() == attempt


async def test_terminated_and_killed_trainers_have_the_exit_codes_of_their_signals(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with launching(RUNNING) as launcher:
        stopped, killed = [await launcher.launch(start_of(tmp_path), log) for _ in range(2)]
        await until_logged(log, "runs\nruns")
        stopped.terminate()
        killed.kill()
        assert (await stopped.wait(), await killed.wait()) == (143, 128 + signal.SIGKILL)


async def test_trainer_of_a_killed_fork_server_runs_until_it_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with launching(RUNNING) as launcher:
        trainer = await launcher.launch(start_of(tmp_path), log)
        await until_logged(log, "runs")
        first = launcher.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await replaced(launcher, first)
        ended = asyncio.ensure_future(trainer.wait())
        os.kill(trainer.pid, 0)
        assert not ended.done()
        other = await launcher.launch(start_of(tmp_path), log)
        for each in (trainer, other):
            each.terminate()
        assert await ended is None  # its exit code was lost with its fork server
        assert await other.wait() == 143


async def test_trainer_that_runs_when_the_launcher_closes_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with launching(RUNNING) as launcher:
        trainer = await launcher.launch(start_of(tmp_path), log)
        await until_logged(log, "runs")
    assert await trainer.wait() == 143


@pytest.mark.parametrize(
    "program",
    [
        TrainerProgram("forked_functions", "forked_functions:fail_check", ENDING.run),
        TrainerProgram("no_such_module", "no_such_module:check", ENDING.run),
        TrainerProgram("this", "forked_functions:check", ENDING.run),  # a preload that does not load the trainer
    ],
    ids=["check fails", "trainer missing", "not preloaded"],
)
async def test_fork_server_that_is_never_ready_is_replaced_by_the_fallback(
    program: TrainerProgram, tmp_path: Path
) -> None:
    fallback = Fallback()
    async with launching(program, fallback) as launcher:
        with pytest.raises(LaunchFailed, match="fallback"):
            await launcher.launch(start_of(tmp_path), tmp_path / "log")
    assert fallback.launched.is_set()
    assert launcher.pid is None


async def test_fork_by_a_server_that_hangs_fails_in_time_and_the_server_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.local.warm_launcher.FORK_SECONDS", 0.2)
    environment = GrpcEnvironment("127.0.0.1:5", 1, {"level": MORE_THAN_A_PIPE_TAKES})
    async with launching(ENDING) as launcher:
        await launcher.ready()
        hanging = launcher.pid
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(LaunchFailed):
            await launcher.launch(start_of(tmp_path, environment=environment), tmp_path / "log")
        await replaced(launcher, hanging)
        assert await (await launcher.launch(start_of(tmp_path, 3), tmp_path / "log")).wait() == 3


async def test_close_while_a_fork_hangs_returns_soon(tmp_path: Path) -> None:
    async with launching(ENDING) as launcher:
        await launcher.ready()
        assert launcher.pid is not None
        os.kill(launcher.pid, signal.SIGSTOP)
        pending = asyncio.create_task(launcher.launch(start_of(tmp_path), tmp_path / "log"))
        await until_logged(tmp_path / "log", "")
        assert not pending.done()
    with pytest.raises(LaunchFailed):
        await pending


async def test_log_that_cannot_be_opened_fails_the_launch(tmp_path: Path) -> None:
    async with launching(ENDING) as launcher:
        with pytest.raises(FileNotFoundError):
            await launcher.launch(start_of(tmp_path), tmp_path / "missing" / "log")
        assert await (await launcher.launch(start_of(tmp_path, 2), tmp_path / "log")).wait() == 2
