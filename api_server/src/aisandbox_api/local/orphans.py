"""A trainer that another process has forked.

Owns signalling it and knowing when it has ended, also when its parent has died and nobody is told its exit code: such a
trainer goes on undisturbed, and what became of it is read from its termination message. POSIX only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

POLL_SECONDS = 0.1


class ForkedProcess:
    """The process ``pid``, whose parent will say :meth:`has_exited`, or :meth:`orphaned` when it cannot."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._exit: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._pidfd: int | None = None
        self._watch: asyncio.Task[None] | None = None
        with contextlib.suppress(OSError, AttributeError):  # not everywhere, or it has ended already
            self._pidfd = os.pidfd_open(pid)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._pid

    async def wait(self) -> int | None:
        """The exit code, 128 + signal for a killed one; None if its parent died before it."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """Sends SIGTERM, unless it has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL, unless it has ended."""
        self._signal(signal.SIGKILL)

    def has_exited(self, code: int) -> None:
        """Its parent has seen its end."""
        self._end(code)

    def orphaned(self) -> None:
        """Its parent has died; from now on it is watched from here."""
        if not self._exit.done():
            self._watch = asyncio.get_running_loop().create_task(self._watch_until_end())

    async def _watch_until_end(self) -> None:
        if self._pidfd is not None:
            gone = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._pidfd, gone.set)  # readable once it has ended, reaped or not
            try:
                await gone.wait()
            finally:
                loop.remove_reader(self._pidfd)
        else:
            while _exists(self._pid):  # noqa: ASYNC110 - there is nothing that would tell
                await asyncio.sleep(POLL_SECONDS)
        self._end(None)

    def _signal(self, number: signal.Signals) -> None:
        if self._exit.done():
            return
        with contextlib.suppress(OSError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self._pid, number)

    def _end(self, code: int | None) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
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
