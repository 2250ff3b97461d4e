"""A disk with planned faults: every change this process makes to files below a folder can go wrong.

Owns the counting of operations (open for writing, write, fsync, rename, mkdir, unlink, rmdir, copies) and what is done
at one of them: the process is killed or stopped, or the call fails. It stands between Python and the system calls, so
the code under test is as it is. Must not know who writes. What it is to do comes from the variable FAULTS_PLAN, which
is read at every operation until it is set, so that a fork can be given its own.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PLAN = "FAULTS_PLAN"
FREEING = frozenset({"unlink", "remove", "rmdir"})
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Plan:
    """At operation ``at`` below ``root`` (counted from 0; ``logs`` folders are left out) ``action`` happens.

    ``action``: "kill", "stop", or the name of an errno such as ENOSPC. ``when``: "before" or "after" the operation, or
    "torn", which is in the middle of a write. An errno is met by ``times`` operations, and by none once the file
    ``until`` exists. Every operation is appended to the file ``log``, as a line of JSON.
    """

    root: str
    log: str
    at: int = -1
    action: str = "kill"
    when: str = "before"
    times: int = 1
    until: str = ""

    def to_environ(self) -> dict[str, str]:
        return {PLAN: json.dumps(asdict(self))}


@dataclass(frozen=True, slots=True)
class Operation:
    """One that was done, failed, or (``began`` only) never ended. Times in nanoseconds of the monotonic clock."""

    number: int
    kind: str
    path: str
    to: str = ""
    size: int = 0
    began: int = 0
    ended: int = 0
    error: str = ""


def operations(log: Path) -> list[Operation]:
    """What the log says; a last line may be broken off."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            found.append(Operation(**json.loads(line)))
        except ValueError:
            continue
    return found


class _Disk:
    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._count = 0
        self._failures = 0
        self._lock = threading.Lock()
        self._open, self._write, self._close, self._exists = os.open, os.write, os.close, os.path.exists

    def plan(self) -> Plan | None:
        if self._plan is None and (text := os.environ.get(PLAN)):
            self._plan = Plan(**json.loads(text))
        return self._plan

    def concerns(self, path: str) -> bool:
        plan = self.plan()
        return plan is not None and path.startswith(plan.root + "/") and "/logs/" not in path

    def around(
        self, kind: str, path: str, call: Callable[[], Any], *, to: str = "", size: int = 0, half: Any = None
    ) -> Any:
        """Does ``call`` and what the plan says to it; ``half`` does the first half of it."""
        plan = self.plan()
        if plan is None or not self.concerns(path):
            return call()
        with self._lock:
            number = self._count
            self._count += 1
        began = time.monotonic_ns()
        is_it = number == plan.at
        if plan.action in _SIGNALS:
            if is_it and plan.when != "after":
                if plan.when == "torn" and half is not None:
                    half()
                self._tell(number, kind, path, to, size, began, error=plan.action)
                os.killpg(os.getpgrp(), _SIGNALS[plan.action])
                began = time.monotonic_ns()  # one that was stopped does it now
                if plan.when == "torn" and half is not None:
                    return size // 2  # a short write, which the caller continues
        elif plan.at >= 0 and number >= plan.at and self._meets(plan, kind):
            self._failures += 1
            if half is not None and plan.when == "torn":
                half()
            self._tell(number, kind, path, to, size, began, error=plan.action)
            code = getattr(errno, plan.action)
            raise OSError(code, os.strerror(code), path)
        try:
            result = call()
        except OSError as error:
            self._tell(number, kind, path, to, size, began, error=str(error))
            raise
        self._tell(number, kind, path, to, size, began)
        if is_it and plan.when == "after" and plan.action in _SIGNALS:
            os.killpg(os.getpgrp(), _SIGNALS[plan.action])
        return result

    def _meets(self, plan: Plan, kind: str) -> bool:
        """Whether an operation at or after the one of the plan fails; what frees space never finds the disk full."""
        over = plan.until and self._exists(plan.until)
        return self._failures < plan.times and not over and not (plan.action == "ENOSPC" and kind in FREEING)

    def _tell(self, number: int, kind: str, path: str, to: str, size: int, began: int, error: str = "") -> None:
        assert self._plan is not None
        self.tell(Operation(number, kind, path, to, size, began, time.monotonic_ns(), error))

    def tell(self, operation: Operation) -> None:
        plan = self.plan()
        if plan is None or not plan.log:
            return
        descriptor = self._open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write(descriptor, json.dumps(asdict(operation)).encode() + b"\n")
        self._close(descriptor)


DISK = _Disk()


class _File(io.FileIO):
    """A file whose every write may go wrong."""

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        whole, half = super().write, view[: len(view) // 2]
        return int(
            DISK.around("write", str(self.name), lambda: whole(view), size=len(view), half=lambda: whole(half)) or 0
        )


def _open_file(original: Any) -> Any:
    def opened(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None,
        closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        path = "" if isinstance(file, int) else os.path.abspath(os.fsdecode(file))
        if not set(mode) & set("wxa+") or opener is not None or not path or not DISK.concerns(path):
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = DISK.around("open", path, lambda: _File(path, mode.replace("b", "").replace("t", "")))
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return opened


def _path_of(file: Any, dir_fd: int | None = None) -> str:
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    path = os.fsdecode(file)
    return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path) if dir_fd is not None else os.path.abspath(path)


def _wrap_paths(kind: str) -> None:
    original = getattr(os, kind)

    def call(path: Any, *arguments: Any, dir_fd: int | None = None, **named: Any) -> Any:
        where = _path_of(path, dir_fd)
        named = named if dir_fd is None else {**named, "dir_fd": dir_fd}
        return DISK.around(kind, where, lambda: original(path, *arguments, **named))

    setattr(os, kind, call)


def _wrap_renames(kind: str) -> None:
    original = getattr(os, kind)

    def call(source: Any, target: Any, **named: Any) -> Any:
        to = os.path.abspath(os.fsdecode(target))
        return DISK.around("rename", _path_of(source), lambda: original(source, target, **named), to=to)

    setattr(os, kind, call)


def _wrap_descriptors(kind: str) -> None:
    original = getattr(os, kind)

    def call(descriptor: int, *arguments: Any) -> Any:
        if DISK.plan() is None:
            return original(descriptor, *arguments)
        return DISK.around(kind, _path_of(descriptor), lambda: original(descriptor, *arguments))

    setattr(os, kind, call)


def _wrap_open() -> None:
    original = os.open

    def call(path: Any, flags: int, *arguments: Any, dir_fd: int | None = None, **named: Any) -> Any:
        named = named if dir_fd is None else {**named, "dir_fd": dir_fd}
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return original(path, flags, *arguments, **named)
        return DISK.around("open", _path_of(path, dir_fd), lambda: original(path, flags, *arguments, **named))

    os.open = call


def _wrap_sendfile() -> None:
    original = os.sendfile

    def call(out: int, source: int, offset: Any, count: int, **named: Any) -> int:
        return int(DISK.around("write", _path_of(out), lambda: original(out, source, offset, count, **named)))

    setattr(os, "sendfile", call)  # noqa: B010


def install() -> None:
    """Puts itself before the calls of this process; until there is a plan nothing changes."""
    opened = _open_file(builtins.open)
    builtins.open = io.open = opened
    for kind in ("mkdir", "unlink", "remove", "rmdir"):
        _wrap_paths(kind)
    for kind in ("rename", "replace"):
        _wrap_renames(kind)
    for kind in ("fsync", "fdatasync", "write", "ftruncate"):
        _wrap_descriptors(kind)
    _wrap_open()
    _wrap_sendfile()
