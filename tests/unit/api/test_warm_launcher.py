"""The warm process's protocol, with a process that only speaks it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api.errors import LaunchFailed
from aisandbox_api.local.launcher import Trainer
from aisandbox_api.local.warm_launcher import WarmLauncher
from aisandbox_crds.spec import Algorithm, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_start import TrainerStart

READY = "import json, os, sys, time\nprint(json.dumps({'ready': True}), flush=True)\n"

ENDS_AT_ONCE = """
for line in sys.stdin:
    begun = {"id": json.loads(line)["id"], "pid": os.getpid()}
    sys.stdout.write(json.dumps(begun) + "\\n" + json.dumps({**begun, "exit_code": 7}) + "\\n")
    sys.stdout.flush()
"""

READS_NOTHING = "time.sleep(600)"
MORE_THAN_A_PIPE_TAKES = "x" * 1_000_000


class NoLauncher:
    async def start(self) -> None: ...
    async def ready(self) -> None: ...
    async def close(self) -> None: ...

    async def launch(self, start: TrainerStart, log_path: Path) -> Trainer:
        raise AssertionError("the warm process has not been ready")


@asynccontextmanager
async def warm(program: str, tmp_path: Path) -> AsyncIterator[Callable[..., Coroutine[Any, Any, Trainer]]]:
    """Launches the attempt of that number in a warm process that runs ``program``."""
    launcher = WarmLauncher(NoLauncher(), [sys.executable, "-c", READY + program], pause_seconds=0.01)
    await launcher.start()

    async def launch(attempt: int, **options: Any) -> Trainer:
        start = TrainerStart("run-1", attempt, TrainingRunSpec(Algorithm.PPO, 100, **options), tmp_path, tmp_path)
        return await launcher.launch(start, tmp_path / "log")

    try:
        async with asyncio.timeout(20):
            yield launch
    finally:
        await launcher.close()


async def test_trainer_that_ends_as_soon_as_it_is_forked_has_its_exit_code(tmp_path: Path) -> None:
    async with warm(ENDS_AT_ONCE, tmp_path) as launch:
        for attempt in range(1, 30):
            assert await (await launch(attempt)).wait() == 7


async def test_fork_by_a_process_that_reads_nothing_fails_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.local.warm_launcher.FORK_SECONDS", 0.2)
    monkeypatch.setattr("aisandbox_api.local.warm_launcher.CLOSE_SECONDS", 0.2)
    environment = GrpcEnvironment("127.0.0.1:5", 1, {"level": MORE_THAN_A_PIPE_TAKES})
    async with warm(READS_NOTHING, tmp_path) as launch:
        with pytest.raises(LaunchFailed):
            await launch(1, environment=environment)


async def test_close_while_a_fork_is_being_written_is_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aisandbox_api.local.warm_launcher.CLOSE_SECONDS", 0.2)
    environment = GrpcEnvironment("127.0.0.1:5", 1, {"level": MORE_THAN_A_PIPE_TAKES})
    async with warm(READS_NOTHING, tmp_path) as launch:
        launching = asyncio.create_task(launch(1, environment=environment))
        await asyncio.wait([launching], timeout=0.5)
        assert not launching.done()
    with pytest.raises(LaunchFailed):
        await launching
