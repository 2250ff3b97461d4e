"""The local backend with real child processes, where the contract suite does not reach: limits, kills, full disks."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api import Settings
from aisandbox_api.errors import LaunchFailed
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.launcher import ProcessLauncher
from aisandbox_api.local.warm_launcher import TrainerProgram, WarmLauncher
from aisandbox_crds.spec import Algorithm, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.status import Phase
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_model_store import DiskFull
from aisandbox_process.fork_server import ForkedProcess, ForkServer

SCRIPTED_TRAINER = Path(__file__).parents[1] / "contract" / "scripted_trainer.py"
PLAIN = [sys.executable, str(SCRIPTED_TRAINER), "run"]
WARM = TrainerProgram("scripted_trainer", "scripted_trainer:check", "scripted_trainer:run_forked")
FOREVER = 10**9


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted trainer, for fork servers."""
    path = (str(SCRIPTED_TRAINER.parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path, stop_grace_seconds=0.5, max_concurrent_runs=2)


@asynccontextmanager
async def supervising(settings: Settings, launcher: Any = None) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend(settings, launcher or ProcessLauncher(PLAIN))
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    try:
        yield backend
    finally:
        await backend.close()


def scripted(*script: str, name: str = "run-1", total: int = 100, **fields: Any) -> TrainingRun:
    environment = GymnasiumEnvironment("Scripted-v0", {"script": list(script) or ["train"]})
    return TrainingRun(name, replace(TrainingRunSpec(Algorithm.PPO, total, environment, seed=1), **fields))


async def until(backend: LocalBackend, name: str, holds: Callable[[TrainingRun], object]) -> TrainingRun:
    async with asyncio.timeout(30):
        async for run in backend.watch(name):
            if holds(run):
                return run
    pytest.fail(f"the watch ended before: {run.status}")


async def done(backend: LocalBackend, name: str = "run-1") -> TrainingRun:
    return await until(backend, name, lambda run: run.status.phase.is_done)


def log_of(settings: Settings, name: str = "run-1") -> Path:
    return settings.models_dir / "runs" / name / "logs" / "trainer.log"


async def until_logged(settings: Settings, text: str) -> None:
    async with asyncio.timeout(30):
        while not log_of(settings).exists() or text not in log_of(settings).read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_crashing_run_fails_with_the_last_lines_of_its_log(settings: Settings) -> None:
    async with supervising(settings) as backend:
        await backend.create(scripted("crash", backoff_limit=0))
        run = await done(backend)
    assert (run.status.phase, run.status.restarts) == (Phase.FAILED, 0)
    assert run.status.failure is not None
    assert run.status.failure.reason == "TrainerCrashed"
    assert "RuntimeError: the script says crash" in run.status.failure.message


async def test_killed_trainer_fails_with_a_hint_at_memory(settings: Settings) -> None:
    async with supervising(settings) as backend:
        await backend.create(scripted("kill", backoff_limit=0))
        run = await done(backend)
    assert run.status.failure is not None
    assert run.status.failure.reason == "TrainerKilled"
    assert "memory" in run.status.failure.message


async def test_retryable_failure_is_retried_until_the_limit(settings: Settings) -> None:
    async with supervising(settings) as backend:
        await backend.create(scripted("retryable", backoff_limit=1))
        waiting = await until(backend, "run-1", lambda run: run.status.restarts == 1)
        assert "no simulator answers at" in waiting.status.progress.warning
        run = await done(backend)
    assert (run.status.attempt, run.status.restarts) == (2, 1)
    assert run.status.failure is not None
    assert run.status.failure.reason == "SimulatorUnreachable"


async def test_run_beyond_its_deadline_fails_and_keeps_its_checkpoint(settings: Settings) -> None:
    async with supervising(settings) as backend:
        await backend.create(scripted("train", total=FOREVER, active_deadline_seconds=2))
        run = await done(backend)
    assert run.status.failure is not None
    assert run.status.failure.reason == "DeadlineExceeded"
    assert run.status.latest_checkpoint is not None


async def test_trainer_that_does_not_stop_is_killed_after_the_grace(settings: Settings) -> None:
    async with supervising(settings) as backend:
        await backend.create(scripted("stubborn", total=FOREVER))
        await until_logged(settings, "does stubborn")
        await backend.cancel("run-1")
        run = await done(backend)
    assert run.status.phase is Phase.CANCELLED


async def test_cancel_during_the_pause_before_a_restart_takes_effect_at_once(settings: Settings) -> None:
    async with supervising(settings) as backend:
        await backend.create(scripted("retryable", backoff_limit=9))
        await until(backend, "run-1", lambda run: run.status.restarts == 1)
        assert (await backend.cancel("run-1")).status.phase is Phase.CANCELLED
        assert (await done(backend)).status.attempt == 1


async def test_full_disk_refuses_the_start_and_keeps_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with supervising(settings) as backend:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            with pytest.raises(DiskFull):
                await backend.create(scripted())
        assert await backend.list() == []
        await backend.create(scripted())
        assert (await done(backend)).status.phase is Phase.SUCCEEDED


async def test_disk_that_is_full_for_a_while_loses_no_end_of_a_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = settings.models_dir / "runs" / "run-1" / "trainingrun.json"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with supervising(settings) as backend:
        await backend.create(scripted("train", total=FOREVER))
        await until_logged(settings, "does train")
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            await backend.cancel("run-1")
            assert (await done(backend)).status.phase is Phase.CANCELLED
            assert "Cancelled" not in record.read_text()
    assert "Cancelled" in record.read_text()


async def test_fork_server_that_never_becomes_ready_is_replaced_by_plain_processes(settings: Settings) -> None:
    program = replace(WARM, preload="no_such_module", check="no_such_module:check")
    launcher = WarmLauncher(ProcessLauncher(PLAIN), program, pause_seconds=0.01)
    async with supervising(settings, launcher) as backend:
        await backend.create(scripted())
        assert (await done(backend)).status.phase is Phase.SUCCEEDED
    assert launcher.pid is None


@pytest.fixture
def slow_preload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file until which the preload ``slow_preload`` waits."""
    modules, access_control = tmp_path / "modules", tmp_path / "access_control"
    modules.mkdir()
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(access_control)!r}).exists(): time.sleep(0.01)\n"
    (modules / "slow_preload.py").write_text(wait + "import scripted_trainer\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(modules), os.environ["PYTHONPATH"])))
    return access_control


async def test_start_during_the_warm_up_waits_for_it(settings: Settings, slow_preload: Path) -> None:
    launcher = WarmLauncher(ProcessLauncher(PLAIN), replace(WARM, preload="slow_preload"))
    async with supervising(settings, launcher) as backend:
        await backend.create(scripted())
        loading = await until(backend, "run-1", lambda run: run.status.phase is Phase.STARTING)
        assert loading.status.attempt == 0
        slow_preload.touch()  # noqa: ASYNC240
        run = await done(backend)
    assert (run.status.phase, run.status.attempt) == (Phase.SUCCEEDED, 1)


@pytest.mark.usefixtures("slow_preload")
async def test_cancel_during_the_warm_up_takes_effect_soon(settings: Settings) -> None:
    launcher = WarmLauncher(ProcessLauncher(PLAIN), replace(WARM, preload="slow_preload"))
    async with supervising(settings, launcher) as backend:
        await backend.create(scripted())
        await until(backend, "run-1", lambda run: run.status.phase is Phase.STARTING)
        await backend.cancel("run-1")
        assert (await done(backend)).status.attempt == 0


async def test_fork_that_fails_is_retried(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ForkServer.fork

    def fork(self: ForkServer, function: str, arguments: Any, output: int) -> ForkedProcess:
        if function == WARM.run:
            raise OSError(errno.ENOMEM, "no memory")
        return real(self, function, arguments, output)

    monkeypatch.setattr(ForkServer, "fork", fork)
    launcher = WarmLauncher(ProcessLauncher(PLAIN), WARM)
    async with supervising(settings, launcher) as backend:
        await backend.create(scripted(backoff_limit=1))
        run = await done(backend)
    assert run.status.failure is not None
    assert run.status.failure.reason == "LaunchFailed"
    assert "no memory" in run.status.failure.message
    assert run.status.attempt == 2


async def test_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    spec = TrainingRunSpec(Algorithm.PPO, 10)
    start = TrainerStart("run-1", 1, spec, tmp_path, tmp_path)
    with pytest.raises(LaunchFailed, match="/no/such/trainer"):
        await ProcessLauncher(["/no/such/trainer"]).launch(start, tmp_path / "log")


@pytest.mark.skipif(os.name == "nt", reason="POSIX groups")
async def test_trainer_leads_a_process_group_so_that_ctrl_c_reaches_only_the_service(tmp_path: Path) -> None:
    start = TrainerStart("run-1", 1, TrainingRunSpec(Algorithm.PPO, FOREVER), tmp_path, tmp_path)
    trainer = await ProcessLauncher(PLAIN).launch(start, tmp_path / "log")
    try:
        assert os.getpgid(trainer.pid) == trainer.pid != os.getpgrp()
    finally:
        trainer.kill()
    assert await trainer.wait() == 128 + signal.SIGKILL
