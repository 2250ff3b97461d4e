"""The lock that allows one service for each MODELS_DIR.

Owns the lock file. The lock is the kernel's, so it ends with its process in every case; the file stays and only names
the last owner.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import IO

from aisandbox_model_store import RUNS_FOLDER

from aisandbox_api.errors import ModelsDirInUse, ModelsDirNotWritable

LOCK_NAME = ".service-lock"


class DirectoryLock:
    """Holds ``folder`` for this process from :meth:`acquire` to :meth:`release`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RUNS_FOLDER / LOCK_NAME
        self._models_dir = folder
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises ModelsDirInUse at once if another process holds it, ModelsDirNotWritable."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as the file is open
        except OSError as error:
            raise ModelsDirNotWritable(self._models_dir, error) from error
        try:
            _lock(file)
        except OSError as error:
            owner = _owner(file)
            file.close()
            raise ModelsDirInUse(self._models_dir, owner) from error
        with contextlib.suppress(OSError):  # on a full disk the owner is not written, but the lock holds
            file.seek(1)
            file.truncate()
            file.write(f" held by process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        self._file = file

    def release(self) -> None:
        """Releases the lock; does nothing if it is not held."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk has not taken is written again here
                self._file.close()
            self._file = None


def _owner(file: IO[str]) -> str:
    with contextlib.suppress(OSError):
        file.seek(1)
        return f" ({file.read(200).strip()})"
    return ""


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # locks the first byte only, so the owner can be read
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
