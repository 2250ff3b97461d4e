"""Whose folder it is: a run's uid, and what becomes of an earlier run of the same name.

A run that was deleted and made again has the name, and so the folder, of the one before, but not its uid. The file
``uid`` tells them apart; it is the first that is written into a folder. The earlier run's folder is renamed to
NAME.UID8 (eight characters of its uid), which is no run's name, so nobody lists it. Must not know what is in a folder.

There are two ways for two trainers to meet here. Of one run: the place to rename to is the same for both, and a folder
cannot be renamed onto one that has something in it, so the slower one can never move what the faster one has begun. Of
two runs of one name: what was set aside never comes back, so an old trainer cannot take its place again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from aisandbox_model_store.atomic_file import create_folder, sync_folder, write_atomically
from aisandbox_model_store.errors import Replaced
from aisandbox_model_store.layout import UID_FILE

_UID = re.compile(r"[0-9A-Za-z][-0-9A-Za-z]{0,62}")
_SHOWN = 8
_TRIES = 3


def uid_of(folder: Path) -> str:
    """Return the uid of the run whose folder it is; empty if nobody has said. Raises OSError."""
    try:
        return (folder / UID_FILE).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def own(folder: Path, uid: str) -> None:
    """Make ``folder`` the folder of the run ``uid``: what is another run's is set aside first, and survives.

    Files without a uid are taken over: somebody has put them there for this run to go on from.
    Raises ValueError for what is no uid, Replaced if the run itself was set aside, OSError.
    """
    if not _UID.fullmatch(uid):
        raise ValueError(f"uid: must be letters, digits and '-', and is {uid[:100]!r}")
    if uid_of(_aside(folder, uid)) == uid:
        raise Replaced(folder.name, uid)
    for _ in range(_TRIES):
        owner = uid_of(folder)
        if owner == uid:
            return
        if owner:
            _set_aside(folder, owner)
        else:
            create_folder(folder)
            write_atomically(folder / UID_FILE, f"{uid}\n".encode())
    check_owner(folder, uid)


def check_owner(folder: Path, uid: str) -> None:
    """Raise Replaced unless ``folder`` belongs to the run ``uid``; without a uid nothing is looked at."""
    if uid and uid_of(folder) != uid:
        raise Replaced(folder.name, uid)


def _aside(folder: Path, owner: str) -> Path:
    return folder.with_name(f"{folder.name}.{owner[:_SHOWN]}")


def _set_aside(folder: Path, owner: str) -> None:
    try:
        os.rename(folder, _aside(folder, owner))
        sync_folder(folder.parent)
    except OSError:
        if uid_of(folder) == owner:  # else another trainer of this run was faster
            raise
