"""A child process whose end can be awaited without blocking the event loop.

Owns Popen, the thread that waits, and the signals of POSIX and Windows. A thread rather than asyncio's own
subprocesses, because those need an event loop of one kind on Windows and gRPC one of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO


class ChildProcess:
    """A process in a group of its own: Ctrl-C in a terminal reaches the service, which stops its children in order."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        threading.Thread(target=self._wait, name=f"wait-{popen.pid}", daemon=True).start()

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        environ: Mapping[str, str],
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int,
    ) -> ChildProcess:
        """Starts ``command``, with a pipe on its stdin. Raises OSError."""
        if os.name == "nt":
            flags, session = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0), False
        else:
            flags, session = 0, True
        popen = await asyncio.to_thread(
            subprocess.Popen,
            list(command),
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            start_new_session=session,
            creationflags=flags,
        )
        return cls(popen)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Closing it tells the child that its parent is gone."""
        assert self._popen.stdin is not None  # noqa: S101 - spawn makes it
        return self._popen.stdin

    async def wait(self) -> int:
        """The exit code; 128 + signal if it was killed by one."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """Asks it to stop: SIGTERM, or CTRL_BREAK_EVENT on Windows, where SIGTERM cannot be caught."""
        wanted = signal.SIGTERM if os.name != "nt" else getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
        with contextlib.suppress(OSError):
            self._popen.send_signal(wanted)

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(OSError):
            self._popen.kill()

    def _wait(self) -> None:
        code = self._popen.wait()
        if code < 0:
            code = 128 - code
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended, code)

    def _ended(self, code: int) -> None:
        with contextlib.suppress(OSError):
            self.stdin.close()
        if not self._exit.done():
            self._exit.set_result(code)


def python_command(*arguments: str) -> tuple[str, ...]:
    """The command that runs this interpreter with ``arguments``."""
    return (sys.executable, *arguments)
