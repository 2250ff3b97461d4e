"""The attempts that have claimed a run: the fencing tokens of its folder.

Each attempt has a number, and a file of that name in attempts/. The greatest number may publish, as a fencing token
(Kleppmann, "How to do distributed locking", 2016) that every write checks; :mod:`aisandbox_model_store.writer` says why
no lock is needed. Must not know what is published.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from aisandbox_model_store.errors import Fenced


def claim_attempt(folder: Path, attempt: int | None) -> int:
    """Record a claim in ``folder``, which exists, for ``attempt`` or the next number (None); return the number.

    Raises Fenced if a newer attempt has claimed, OSError.
    """
    if attempt is None:
        return _claim_next(folder)
    check_newest(folder, attempt)
    (folder / str(attempt)).touch()
    return attempt


def check_newest(folder: Path, attempt: int) -> None:
    """Raise Fenced if an attempt newer than ``attempt`` has claimed."""
    if (newest := _newest(folder)) > attempt:
        raise Fenced(attempt, newest)


def _claim_next(folder: Path) -> int:
    while True:
        attempt = max(_newest(folder), 0) + 1
        with contextlib.suppress(FileExistsError):  # of several claims at once, one gets the number
            (folder / str(attempt)).touch(exist_ok=False)
            return attempt


def _newest(folder: Path) -> int:
    try:
        return max((int(name) for name in os.listdir(folder) if name.isdecimal()), default=-1)
    except FileNotFoundError:
        return -1
