"""Which run a folder belongs to, by the run's uid.

A run that was deleted and created again has the name, and so the folder, of the earlier run, but not its uid. The file
``uid`` tells them apart; it is written into a folder before anything else. The earlier run's folder is renamed to
NAME.UID8 (the first eight characters of its uid), which is not a valid name of a run, so it is not listed. Must not
know what is in a folder.

Two trainers can race here. Two attempts of one run: both rename to the same name, and a folder cannot be renamed onto
one that is not empty, so the slower attempt can never move what the faster one has begun. Two runs of one name: a
folder that was renamed is never renamed back, so an old trainer cannot claim the name again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from aisandbox_model_store.atomic_file import create_folder, sync_folder, write_atomically
from aisandbox_model_store.errors import RunReplaced
from aisandbox_model_store.layout import UID_FILE
from aisandbox_model_store.regular_file import read_regular

_UID = re.compile(r"[0-9A-Za-z][-0-9A-Za-z]{0,62}")
_UID_PREFIX = 8
_ATTEMPTS = 3
_LARGEST_UID = 1024


def uid_of(folder: Path) -> str:
    """Return the uid of the run that owns ``folder``; empty if none is recorded. Raises Damaged, OSError."""
    try:
        return read_regular(folder / UID_FILE, _LARGEST_UID).decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def take_ownership(folder: Path, uid: str) -> None:
    """Make ``folder`` the folder of the run ``uid``; another run's folder is renamed first and kept.

    A folder without a uid is taken over with its files: they were put there for this run to resume from.
    Raises ValueError for an invalid uid, RunReplaced if this run's own folder was renamed, OSError.
    """
    if not _UID.fullmatch(uid):
        raise ValueError(f"uid: must be letters, digits and '-', got {uid[:100]!r}")
    if uid_of(_renamed(folder, uid)) == uid:
        raise RunReplaced(folder.name, uid)
    for _ in range(_ATTEMPTS):
        owner = uid_of(folder)
        if owner == uid:
            return
        if owner:
            _rename_away(folder, owner)
        else:
            create_folder(folder)
            write_atomically(folder / UID_FILE, f"{uid}\n".encode())
    check_owner(folder, uid)


def check_owner(folder: Path, uid: str) -> None:
    """Raise RunReplaced unless ``folder`` belongs to the run ``uid``; an empty uid is not checked."""
    if uid and uid_of(folder) != uid:
        raise RunReplaced(folder.name, uid)


def _renamed(folder: Path, owner: str) -> Path:
    return folder.with_name(f"{folder.name}.{owner[:_UID_PREFIX]}")


def _rename_away(folder: Path, owner: str) -> None:
    try:
        os.rename(folder, _renamed(folder, owner))
        sync_folder(folder.parent)
    except OSError:
        if uid_of(folder) == owner:  # else another trainer of this run was faster
            raise
