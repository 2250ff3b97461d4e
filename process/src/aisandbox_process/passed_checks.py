"""Checks that have passed in one of the processes forked from a common parent, so that the others need not repeat them.

Owns where that is kept: an anonymous file that forks inherit. Nothing is kept in a process whose parent has not called
:meth:`PassedChecks.share`, nor by the next parent. Must not know what is checked.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import IO

_DIGEST_BYTES = 32
_MAX_BYTES = 32_768 * _DIGEST_BYTES
"""What is read at each look-up: after so many different checks, no more are kept."""


class PassedChecks:
    """A set of names, empty until :meth:`share`. A name must say all that the result of its check depends on."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def share(self) -> None:
        """Keeps what is added from now on, by this process and those forked from it. Raises OSError."""
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- open until the process ends

    def __contains__(self, name: str) -> bool:
        if self._file is None:
            return False
        kept, wanted = os.pread(self._file.fileno(), _MAX_BYTES, 0), _digest(name)
        return any(kept[start : start + _DIGEST_BYTES] == wanted for start in range(0, len(kept), _DIGEST_BYTES))

    def add(self, name: str) -> None:
        """Keeps the name of a check that has passed."""
        if self._file is not None and name not in self and os.fstat(self._file.fileno()).st_size < _MAX_BYTES:
            self._file.write(_digest(name))  # forks share the position: each write comes after those of the others


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


PASSED_CHECKS = PassedChecks()
"""Those of this process and its forks."""
