"""A trainer that the fork server has forked: not a child of this process.

Owns its signals and its end: the exit code comes from the fork server, and if that has died, the trainer keeps running
and only its end can be seen; what it achieved is read from its termination message. POSIX only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from aisandbox_process.fork_server import ForkedProcess

POLL_SECONDS = 0.1


class ForkedTrainer:
    """See :class:`aisandbox_api.local.launcher.Trainer`. For one event loop."""

    def __init__(self, process: ForkedProcess) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int | None] = self._loop.create_future()
        self._pidfd: int | None = None
        self._polling: asyncio.Task[None] | None = None
        with contextlib.suppress(OSError, AttributeError):  # not on every system, or it has ended already
            self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(process.fileno(), self._read_exit_code)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def wait(self) -> int | None:
        """The exit code, 128 + signal for a killed process; None if the fork server died before it."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """Sends SIGTERM, unless it has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL, unless it has ended."""
        self._signal(signal.SIGKILL)

    def _read_exit_code(self) -> None:
        self._loop.remove_reader(self._process.fileno())
        code = self._process.read_exit_code()
        if code is not None:
            self._end(code)
        elif self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._end, None)  # readable once it has ended
        else:
            self._polling = self._loop.create_task(self._poll())

    async def _poll(self) -> None:
        while _exists(self.pid):  # noqa: ASYNC110 - this system has no descriptor for it
            await asyncio.sleep(POLL_SECONDS)
        self._end(None)

    def _signal(self, number: signal.Signals) -> None:
        if self._exit.done():
            return
        with contextlib.suppress(OSError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)

    def _end(self, code: int | None) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._process.close()
        if not self._exit.done():
            self._exit.set_result(code)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
