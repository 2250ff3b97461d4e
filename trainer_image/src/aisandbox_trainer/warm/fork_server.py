"""A warm process: everything imported once, an attempt forked for each request.

A fork of it takes its first environment step in some 0.05 s instead of seconds. Owns the protocol on stdin and stdout
(see ``--help``) and what a child inherits. It has one thread and no gRPC channel, for neither survives a fork. Must
not know training beyond warming it up.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import selectors
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STDIN = 0
STDOUT = 1


def serve() -> int:
    """Serves requests until stdin ends and every child has, and ends the process; returns only if it cannot serve."""
    warm_up()
    if threading.active_count() != 1 or _native_threads() not in (None, 1):
        print(f"not warm: there are {_native_threads()} threads, and a fork keeps one", file=sys.stderr)
        return 70
    gc.collect()
    gc.freeze()  # shared pages stay shared: the collector of a child need not look at what is here
    code = _Forks().serve()
    sys.stderr.flush()
    os._exit(code)  # what is frozen would be reported as leaks by libraries at an orderly end


def warm_up() -> None:
    """Imports all that an attempt needs, and runs its costly first times: a model, an update, an export."""
    import torch

    torch.set_num_threads(1)
    from aisandbox.v1 import environment_pb2_grpc, training_progress_pb2_grpc  # noqa: F401

    import aisandbox_trainer.export.model_files
    import aisandbox_trainer.run.attempt
    import aisandbox_trainer.run.process  # noqa: F401 -- a child imports nothing from files, which an upgrade may change
    from aisandbox_trainer.warm.rehearsal import rehearse

    rehearse()


@dataclass(slots=True)
class _Forks:
    """The children, and the two pipes between them and this process.

    The lifeline is a pipe of which only this process holds the writing end: a child reads its end when this process
    is gone, in whatever way.
    """

    children: dict[int, str] = field(default_factory=dict)
    lifeline: tuple[int, int] = field(default_factory=os.pipe)
    wakeup: tuple[int, int] = field(default_factory=os.pipe)
    stopping: bool = False

    def serve(self) -> int:
        for descriptor in self.wakeup:
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.set_wakeup_fd(self.wakeup[1])
        _tell(ready=True)
        buffer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(STDIN, selectors.EVENT_READ)
            selector.register(self.wakeup[0], selectors.EVENT_READ)
            while self.children or not self.stopping:
                ready = {key.fd for key, _ in selector.select()}
                if self.wakeup[0] in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wakeup[0], 4096)
                self._reap()
                if STDIN in ready:
                    data = os.read(STDIN, 65536)
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        self._handle(line)
                    if not data:
                        selector.unregister(STDIN)
                        self._stop()
        return 0

    def _stop(self, *_: object) -> None:
        self.stopping = True
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _reap(self) -> None:
        for pid in list(self.children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                _tell(id=self.children.pop(pid), pid=pid, exit_code=code if code >= 0 else 128 - code)

    def _handle(self, line: bytes) -> None:
        identity = None
        try:
            if self.stopping:
                raise ValueError("stopping, no more attempts are started")
            request = json.loads(line)
            identity = str(request["id"])
            environ = {str(key): str(value) for key, value in request["environ"].items()}
            output = os.open(request["log_path"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            _tell(id=identity, error=f"{type(error).__name__}: {error}")
            return
        try:
            pid = self._fork(identity, environ, output)
        except OSError as error:
            _tell(id=identity, error=str(error))
        else:
            _tell(id=identity, pid=pid)
        finally:
            os.close(output)

    def _fork(self, identity: str, environ: dict[str, str], output: int) -> int:
        # A signal between the fork and the child's own handlers must wait, or the child would act as the parent; and
        # until the child is among those that this process passes a SIGTERM on to.
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            if self.stopping:  # asked for since the request was looked at
                raise InterruptedError("stopping, no more attempts are started")
            pid = os.fork()
            if pid == 0:
                self._become_child(environ, output, signals)
            self.children[pid] = identity
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _become_child(self, environ: dict[str, str], output: int, signals: set[signal.Signals]) -> None:
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)  # Ctrl-C in a terminal is for the service, which then stops its trainers itself
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, STDIN)
            os.dup2(output, STDOUT)
            os.dup2(output, 2)
            for descriptor in (nothing, output, self.lifeline[1], *self.wakeup):
                os.close(descriptor)
            code = _run_child(environ, self.lifeline[0], signals)
        except BaseException:  # nothing may return into the parent's loop
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _run_child(environ: dict[str, str], lifeline: int, signals: set[signal.Signals]) -> int:
    import numpy as np
    import torch

    from aisandbox_trainer.run.process import run_from_environ
    from aisandbox_trainer.runtime.stop import Stop

    stop = Stop()
    stop.install()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    os.environ.update(environ)
    random.seed()
    np.random.seed()
    torch.seed()
    return run_from_environ({**environ, "STOP_WITH_PARENT": "false"}, stop, lifeline)


def _tell(**message: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(STDOUT, json.dumps(message).encode() + b"\n")


def _nothing(*_: object) -> None:
    """SIGCHLD needs a handler for its byte to reach the wakeup descriptor."""


def _native_threads() -> int | None:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else None
