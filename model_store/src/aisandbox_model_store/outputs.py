"""Final models outside of runs' folders: moved to where a run asked for, with a record of who has written them.

A trainer writes the file into its run's folder; only who owns the volume moves it, so a trainer needs no other folder.
Must not know who may write what: that is for the caller.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aisandbox_model_store.atomic_file import (
    create_folder,
    raise_disk_full,
    remove_on_error,
    sync_folder,
    write_atomically,
)
from aisandbox_model_store.errors import Damaged
from aisandbox_model_store.layout import OUTPUT_FILE, OUTPUT_RECORDS_FOLDER, RUNS_FOLDER
from aisandbox_model_store.regular_file import read_regular
from aisandbox_model_store.run_store import RunStore

_LARGEST_RECORD = 64 * 1024


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """Who has written a file: the run, its uid (empty on one machine), its owner, and when (RFC 3339)."""

    run: str
    uid: str
    owner: str
    time: str


def written_by(store: RunStore, path: str) -> OutputRecord | None:
    """The record of the file at the output ``path``; None if there is no file, or no run has recorded it.

    Raises OutsideRoot, OSError.
    """
    resolved = store.resolve_output(path)
    if not resolved.exists():
        return None
    try:
        document = json.loads(read_regular(_record_path(store, resolved), _LARGEST_RECORD))
        return OutputRecord(**{each.name: str(document[each.name]) for each in fields(OutputRecord)})
    except (FileNotFoundError, ValueError, TypeError, KeyError, Damaged):
        return None


def publish_output(store: RunStore, path: str, record: OutputRecord) -> Path:
    """Move the file that the run has prepared to the output ``path``, and record who has written it; return its path.

    Once it has been moved, a repeated call changes nothing. Raises FileNotFoundError if the run has prepared none and
    has not written this one, Damaged if it is no regular file, OutsideRoot, DiskFull, OSError.
    """
    resolved = store.resolve_output(path)
    records = store.models_dir / RUNS_FOLDER / OUTPUT_RECORDS_FOLDER
    with raise_disk_full(store.models_dir):
        create_folder(records)
        create_folder(resolved.parent)
        taken = records / f".tmp-{secrets.token_hex(8)}"
        try:
            os.rename(store.run(record.run).path / OUTPUT_FILE, taken)
        except FileNotFoundError:
            before = written_by(store, path)
            if before is not None and (before.run, before.uid) == (record.run, record.uid):
                return resolved
            raise
        with remove_on_error(taken):  # where its trainer cannot exchange it any more
            _check(taken, store.run(record.run).path / OUTPUT_FILE)
            # Resolved again: what was a folder before may be a link now.
            os.replace(taken, store.resolve_output(path))
            sync_folder(resolved.parent)
            write_atomically(_record_path(store, resolved), json.dumps({**asdict(record), "path": path}).encode())
    return resolved


def _check(taken: Path, shown: Path) -> None:
    status = os.lstat(taken)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise Damaged(shown, "is no regular file of its own")


def _record_path(store: RunStore, resolved: Path) -> Path:
    name = resolved.relative_to(store.models_dir.resolve()).as_posix()
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return store.models_dir / RUNS_FOLDER / OUTPUT_RECORDS_FOLDER / f"{digest}.json"
