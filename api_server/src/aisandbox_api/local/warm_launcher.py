"""Starting trainers by forking a process that has loaded everything: hundredths of a second instead of seconds.

Owns the warm process and its protocol (JSON lines, see ``python -m aisandbox_trainer warm``), its restarts, and the
plain launcher as the way out when it will not start. A start while it warms up waits for it: it began earlier than a
new process could, and does the same work. POSIX only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import structlog
from aisandbox_crds.trainer_start import TrainerStart

from aisandbox_api.errors import LaunchFailed
from aisandbox_api.local.child_process import ChildProcess, python_command
from aisandbox_api.local.launcher import Launcher, Trainer
from aisandbox_api.local.orphans import ForkedProcess

log = structlog.get_logger()

WARM_COMMAND = python_command("-m", "aisandbox_trainer", "warm")
TRIES = 3
FORK_SECONDS = 30.0
CLOSE_SECONDS = 1.0
END_SECONDS = 5.0


class WarmLauncher:
    """Keeps one warm process; after ``TRIES`` that died before they were ready, ``fallback`` starts all trainers."""

    def __init__(self, fallback: Launcher, command: Sequence[str] = WARM_COMMAND, pause_seconds: float = 1.0) -> None:
        self._fallback = fallback
        self._command = tuple(command)
        self._pause_seconds = pause_seconds
        self._process: _WarmProcess | None = None
        self._given_up = False
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to warm up."""
        self._task = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int | None:
        """The warm process that forks trainers now, if there is one."""
        return self._process.pid if self._process else None

    async def ready(self) -> None:
        """Waits until a warm process can fork, or none ever will."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._given_up or self._process is not None)

    async def launch(self, start: TrainerStart, log_path: Path) -> Trainer:
        """Forks a trainer. Raises LaunchFailed, OSError."""
        await self.ready()
        process = self._process
        if process is None:
            return await self._fallback.launch(start, log_path)
        return await process.fork(f"{start.run_id}/{start.attempt}", start, log_path)

    async def close(self) -> None:
        """Ends the warm process, which tells its trainers to stop and waits for them."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._fallback.close()

    async def _keep(self) -> None:
        failures = 0
        while failures < TRIES:
            process = None
            try:
                process = await _WarmProcess.spawn(self._command)
                was_ready = await self._live(process)
            except OSError as error:
                log.warning("warm process cannot be started", command=self._command, error=str(error))
                was_ready = False
            finally:
                if process is not None:
                    await process.end()
            failures = 0 if was_ready else failures + 1
            await asyncio.sleep(self._pause_seconds * max(failures, 0.1))
        log.error("warm process does not start; trainers start the slow way", tries=TRIES)
        await self._set(None, given_up=True)

    async def _live(self, process: _WarmProcess) -> bool:
        """From the spawn to the end of a warm process; whether it was ready in between."""
        await process.ready_or_ended()
        was_ready = not process.has_ended
        if was_ready:
            log.info("warm process is ready", pid=process.pid)
            await self._set(process)
        await process.ended()
        log.warning("warm process has ended", pid=process.pid, was_ready=was_ready, last_lines=list(process.last_lines))
        await self._set(None)
        return was_ready

    async def _set(self, process: _WarmProcess | None, given_up: bool = False) -> None:
        async with self._changed:
            self._process, self._given_up = process, given_up
            self._changed.notify_all()


class _WarmProcess:
    """One warm process and the trainers it has forked."""

    def __init__(self, child: ChildProcess) -> None:
        self._child = child
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._forks: dict[str, asyncio.Future[ForkedProcess]] = {}
        self._trainers: dict[str, ForkedProcess] = {}
        self._write_lock = asyncio.Lock()
        self.last_lines: deque[str] = deque(maxlen=20)
        loop = asyncio.get_running_loop()
        _read_lines(child.popen.stdout, loop, self._take, self._end)
        _read_lines(child.popen.stderr, loop, self._take_log, lambda: None)

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> _WarmProcess:
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return cls(await ChildProcess.spawn(command, environ, subprocess.PIPE, subprocess.PIPE))

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def ready_or_ended(self) -> None:
        await self._ready.wait()

    async def ended(self) -> None:
        await self._ended.wait()

    async def fork(self, key: str, start: TrainerStart, log_path: Path) -> ForkedProcess:
        environ = replace(start, stop_with_parent=False).to_environ()
        line = json.dumps({"id": key, "environ": environ, "log_path": str(log_path)}) + "\n"
        forked: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self._forks[key] = forked
        try:
            async with asyncio.timeout(FORK_SECONDS):
                async with self._write_lock:
                    await asyncio.to_thread(self._write, line.encode())
                # Not from self._trainers: a trainer that ended at once has left them before this goes on.
                return await forked
        except (OSError, ValueError, TimeoutError) as error:
            await self.close()  # whatever it still forks would have a parent nobody listens to
            raise LaunchFailed(f"the warm process has not forked a trainer: {error!r}") from error
        finally:
            self._forks.pop(key, None)

    async def close(self) -> None:
        """Ends it the way it expects: end of file on its stdin. One that does not read what is written is killed."""
        closing = asyncio.create_task(asyncio.to_thread(self._close))  # it waits for a write that does
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        if not closing.done():
            log.warning("warm process does not read and is killed", pid=self.pid)
            self._child.kill()

    async def end(self) -> None:
        """Ends it and waits for that; what is still warming up listens to nothing and is killed."""
        await self.close()
        if not self._ready.is_set():
            self._child.kill()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._child.wait()
        except TimeoutError:
            log.warning("warm process does not end and is killed", pid=self.pid)
            self._child.kill()

    def _write(self, line: bytes) -> None:
        self._child.stdin.write(line)
        self._child.stdin.flush()

    def _close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._child.stdin.close()

    def _take(self, line: bytes) -> None:
        message = _parse(line)
        if message.get("ready"):
            self._ready.set()
        elif "error" in message:
            if (forked := self._forks.get(str(message.get("id")))) and not forked.done():
                forked.set_exception(LaunchFailed(f"the warm process cannot fork a trainer: {message['error']}"))
        elif "exit_code" in message:
            if trainer := self._trainers.pop(str(message.get("id")), None):
                trainer.has_exited(int(message["exit_code"]))
        elif "pid" in message:
            key = str(message.get("id"))
            trainer = self._trainers[key] = ForkedProcess(int(message["pid"]))
            if (forked := self._forks.get(key)) and not forked.done():
                forked.set_result(trainer)
            else:  # its launch has been given up
                trainer.kill()

    def _take_log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self.last_lines.append(text)
        log.debug("warm process says", line=text)

    def _end(self) -> None:
        self._ended.set()
        self._ready.set()
        for forked in self._forks.values():
            if not forked.done():
                forked.set_exception(OSError("the warm process has died"))
        for trainer in self._trainers.values():
            trainer.orphaned()
        self._trainers.clear()


def _parse(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    log.warning("warm process wrote what is not of its protocol", line=line[:200].decode(errors="replace"))
    return {}


def _read_lines(
    pipe: IO[bytes] | None,
    loop: asyncio.AbstractEventLoop,
    take: Callable[[bytes], None],
    end: Callable[[], None],
) -> None:
    """Hands every line of ``pipe`` to the loop from a thread of its own, then says that it has ended."""

    def read() -> None:
        with contextlib.suppress(RuntimeError, ValueError, OSError):  # the loop or the pipe is closed
            if pipe is not None:
                for line in pipe:
                    loop.call_soon_threadsafe(take, line)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(end)

    threading.Thread(target=read, name="read-warm-process", daemon=True).start()
