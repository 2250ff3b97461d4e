"""Starting trainers by forking a process that has loaded everything: hundredths of a second instead of seconds.

Owns the life of the fork server: its start, the check that it is ready, its replacement after it has died, and the
plain launcher as the fallback when it does not get ready. A start during the warm-up waits for it: the warm-up began
earlier than a new process could, and does the same work. POSIX only.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import structlog
from aisandbox_crds import TrainerStart
from aisandbox_process.fork_server import ForkedProcess, ForkServer

from aisandbox_api.background_tasks import cancel
from aisandbox_api.errors import LaunchFailed
from aisandbox_api.local.forked_trainer import ForkedTrainer
from aisandbox_api.local.launcher import Launcher, Trainer

log = structlog.get_logger()

TRIES = 3
FORK_SECONDS = 30.0
"""A fork takes hundredths of a second; a fork server that needs longer is taken for hung and is killed."""

STOP_SECONDS = 5.0
"""How long trainers that still run at the end of the service may take to stop."""


@dataclass(frozen=True, slots=True)
class TrainerProgram:
    """What the fork server loads and calls, by name: this package does not import the trainer.

    ``preload`` is a module. ``check`` and ``run`` are "module:function"; their last argument is a descriptor that
    reaches its end when the service is gone, their result an exit code. ``check``: 0 if the fork server is ready.
    ``run`` takes the environment variables of one attempt.
    """

    preload: str = "aisandbox_trainer.warm.preload"
    check: str = "aisandbox_trainer.warm.forked_attempt:check"
    run: str = "aisandbox_trainer.warm.forked_attempt:run"


class WarmLauncher:
    """Keeps one fork server; after ``TRIES`` that died before they were ready, ``fallback`` starts all trainers."""

    def __init__(self, fallback: Launcher, program: TrainerProgram | None = None, pause_seconds: float = 1.0) -> None:
        self._fallback = fallback
        self._program = program or TrainerProgram()
        self._pause_seconds = pause_seconds
        self._server: ForkServer | None = None
        self._given_up = False
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._trainers: dict[asyncio.Task[int | None], ForkedTrainer] = {}

    async def start(self) -> None:
        """Begins the warm-up."""
        self._task = asyncio.create_task(self._keep_server())

    @property
    def pid(self) -> int | None:
        """The fork server that is ready now, if there is one."""
        return self._server.pid if self._server else None

    async def ready(self) -> None:
        """Waits until a fork server is ready, or the launcher has given up."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._given_up or self._server is not None)

    async def launch(self, start: TrainerStart, log_path: Path) -> Trainer:
        """Forks a trainer. Raises LaunchFailed, OSError."""
        await self.ready()
        server = self._server
        if server is None:
            return await self._fallback.launch(start, log_path)
        environ = {**replace(start, stop_with_parent=False).to_environ(), "PYTHONUNBUFFERED": "1"}
        with await asyncio.to_thread(log_path.open, "ab") as log_file:
            trainer = ForkedTrainer(await _fork(server, self._program.run, (environ,), log_file, FORK_SECONDS))
        ended = asyncio.create_task(trainer.wait())
        self._trainers[ended] = trainer
        ended.add_done_callback(self._trainers.pop)
        return trainer

    async def close(self) -> None:
        """Stops the trainers that still run, which takes at most STOP_SECONDS, then ends the fork server."""
        for trainer in self._trainers.values():
            trainer.terminate()
        if self._trainers:
            await asyncio.wait(list(self._trainers), timeout=STOP_SECONDS)
        await cancel(self._task)
        await self._fallback.close()

    async def _keep_server(self) -> None:
        failures = 0
        while failures < TRIES:
            was_ready = await self._run_server()
            failures = 0 if was_ready else failures + 1
            await asyncio.sleep(self._pause_seconds * max(failures, 0.1))
        log.error("fork server does not become ready; trainers are started as new processes", tries=TRIES)
        await self._set(None, given_up=True)

    async def _run_server(self) -> bool:
        """One fork server from its start to its end; whether it was ready in between."""
        server, was_ready = ForkServer([self._program.preload]), False
        try:
            await asyncio.to_thread(server.start)
        except OSError as error:
            log.warning("fork server cannot be started", error=str(error))
            return False
        ended = _wait_in_thread(server)
        try:
            problem = await self._check(server)
            if problem:
                log.warning("fork server is not ready", pid=server.pid, problem=problem)
                return False
            was_ready = True
            log.info("fork server is ready", pid=server.pid)
            await self._set(server)
            await ended.wait()
            log.warning("fork server has ended", pid=server.pid)
            await self._set(None)
        finally:
            server.kill()
            await ended.wait()
        return was_ready

    async def _check(self, server: ForkServer) -> str:
        """Waits for the preload; what is wrong with the server, "" if it is ready."""
        with tempfile.TemporaryFile() as output:
            try:
                code = await ForkedTrainer(await _fork(server, self._program.check, (), output, None)).wait()
            except LaunchFailed as error:
                return str(error)
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        return "" if code == 0 else text or f"the check ended with exit code {code}"

    async def _set(self, server: ForkServer | None, given_up: bool = False) -> None:
        async with self._changed:
            self._server, self._given_up = server, given_up
            self._changed.notify_all()


async def _fork(
    server: ForkServer,
    function: str,
    arguments: tuple[object, ...],
    output: IO[bytes],
    limit_seconds: float | None,
) -> ForkedProcess:
    """Forks in a thread; a server that takes longer than that is killed. Raises LaunchFailed."""
    forking = asyncio.ensure_future(asyncio.to_thread(server.fork, function, arguments, output.fileno()))
    await asyncio.wait([forking], timeout=limit_seconds)
    if not forking.done():
        log.warning("fork server does not answer and is killed", pid=server.pid)
        server.kill()
    try:
        return await forking
    except OSError as error:
        raise LaunchFailed(f"the fork server could not fork a trainer: {error}") from error


def _wait_in_thread(server: ForkServer) -> asyncio.Event:
    """An event that is set once the server has ended."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        server.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="wait-fork-server", daemon=True).start()
    return ended
