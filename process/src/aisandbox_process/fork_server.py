"""Processes forked from one that has loaded what they need: the standard library's fork server, with a preload. POSIX.

Owns the names of :mod:`multiprocessing.forkserver` that its documentation does not list, for both sides: the program
that asks for a process, and the process. ``multiprocessing.Process`` is not used, for three reasons: its child imports
the program's main module again, which may be a user's script; it reports exit code 255 for every child once the fork
server has died, although the child still runs; and the interpreter's exit waits for all of them
(docs/decisions/0003-trainers-are-forked-from-a-warm-process.md). Must not know what the processes are for.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
"""Blocked in the fork server, and in its children until they have handlers and call :func:`unblock_stop_signals`."""

CRASHED = os.EX_SOFTWARE if hasattr(os, "EX_SOFTWARE") else 70
"""The exit code of a process whose function raised an exception."""


class ForkServer:
    """A process that imports the modules ``preload`` and then forks. Started once; methods may be called by any thread.

    An ImportError of a preload is ignored by the standard library; any other exception ends the server.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._server = _Server()
        self._server.set_forkserver_preload([__name__, *preload])
        self._lock = threading.Lock()
        self._has_ended = False

    @property
    def pid(self) -> int:
        """Its process id, once it is started."""
        pid: int | None = self._server._forkserver_pid
        if pid is None:
            raise RuntimeError("the fork server is not started")
        return pid

    @property
    def has_ended(self) -> bool:
        """Whether :meth:`wait` has seen its end."""
        return self._has_ended

    def start(self) -> None:
        """Starts it, without waiting for the preload. Raises OSError."""
        resource_tracker.ensure_running()  # first, because its start unblocks the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._server.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def fork(self, function: str, arguments: Sequence[object], output: int) -> ForkedProcess:
        """Starts a process that calls ``function`` ("module:name") with the arguments; blocks until it is forked.

        Its last argument is a descriptor that reaches its end when this program is gone. The result of the function
        is the exit code. stdout and stderr are appended to the descriptor ``output``. Raises OSError.
        """
        preparation: dict[str, object] = {}  # nothing: no main module, no working directory
        call = pickle.dumps(preparation) + pickle.dumps(_Call(function, tuple(arguments)))
        status, lifeline = self._server.connect_to_new_process([output])
        try:
            _write(lifeline, call)
            return ForkedProcess(forkserver.read_signed(status), status, lifeline)
        except BaseException as error:
            os.close(status)
            os.close(lifeline)
            if isinstance(error, EOFError):
                raise ConnectionResetError("the fork server has ended") from error
            raise

    def kill(self) -> None:
        """Ends the server at once; the processes that it has forked keep running."""
        with self._lock:
            if not self._has_ended:
                with contextlib.suppress(OSError):
                    os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Blocks until the server has ended, then frees what belonged to it. For one thread, once."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        with self._lock:
            self._has_ended = True
            self._server.free()


class ForkedProcess:
    """A process of a fork server. While this object is open, its lifeline stays open (see :mod:`.fork_server`)."""

    def __init__(self, pid: int, status: int, lifeline: int) -> None:
        self.pid = pid
        self._status = status
        self._lifeline = lifeline

    def fileno(self) -> int:
        """Readable once :meth:`read_exit_code` has an answer."""
        return self._status

    def read_exit_code(self) -> int | None:
        """The exit code, 128 + signal for a killed process; None if the fork server died before it. Blocks; once."""
        try:
            code: int = forkserver.read_signed(self._status)
        except EOFError:
            return None
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Frees the descriptors. A process that still runs reads the end of its lifeline, as when this program ends."""
        os.close(self._status)
        os.close(self._lifeline)


def unblock_stop_signals() -> None:
    """To be called in a forked process once it handles SIGTERM and SIGINT; those that came before are handled now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


class _Server(forkserver.ForkServer):
    """Starts once: the standard library's replaces a server that has died at the next fork, without telling."""

    _forkserver_pid: int | None
    _forkserver_alive_fd: int | None
    _forkserver_address: str | None

    def ensure_running(self) -> None:
        if self._forkserver_pid is None:
            super().ensure_running()

    def free(self) -> None:
        """Closes the pipe that keeps the server alive, and removes its socket."""
        if self._forkserver_alive_fd is not None:
            os.close(self._forkserver_alive_fd)
            self._forkserver_alive_fd = None
        if self._forkserver_address is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._forkserver_address)


@dataclass(frozen=True, slots=True)
class _Call:
    """What a forked process does: the object that multiprocessing expects in the place of a Process."""

    function: str
    arguments: tuple[object, ...]

    def _bootstrap(self, parent_sentinel: int) -> int:
        code = CRASHED
        try:
            os.setpgid(0, 0)  # Ctrl-C in a terminal is for the program that started the server
            for output in forkserver.get_inherited_fds() or ():
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.close(output)
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(line_buffering=True)  # a file now, and someone may read along
            code = int(pkgutil.resolve_name(self.function)(*self.arguments, parent_sentinel))
        except BaseException:  # nothing may return into the server's loop
            traceback.print_exc()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        return code


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
