"""Final models outside of runs' folders: moved to where a run asked for, with a record of who has written them.

A trainer writes the file into its run's folder; only who owns the volume moves it, so a trainer needs no other folder.
Must not know who may write what: that is for the caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aisandbox_model_store.atomic_file import create_folder, discard, raise_disk_full, sync_folder, write_atomically
from aisandbox_model_store.errors import Damaged
from aisandbox_model_store.layout import OUTPUT_FILE, OUTPUT_RECORDS_FOLDER, RUNS_FOLDER
from aisandbox_model_store.regular_file import read_regular
from aisandbox_model_store.run_store import RunStore

_LARGEST_RECORD = 64 * 1024
_TAKEN = ".tmp-"
_TAKEN_SECONDS = 86_400.0
"""How long a file that was taken from a run waits to be moved: a trainer asks again for some minutes."""


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
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError, Damaged):
        document = json.loads(read_regular(_record_path(store, resolved), _LARGEST_RECORD))
        return OutputRecord(**{each.name: str(document[each.name]) for each in fields(OutputRecord)})
    return None


def publish_output(store: RunStore, path: str, record: OutputRecord, now: Callable[[], float] = time.time) -> Path:
    """Move the file that the run has prepared to the output ``path``, and record who has written it; return its path.

    May be called again, also while another call for the run is under way and after one that has failed or was killed:
    what that one has taken is moved. Once it has been moved, a repeated call changes nothing. ``now``: Unix time.
    Raises FileNotFoundError if the run has prepared none and has not written this one, Damaged if it is no regular
    file, OutsideRoot, DiskFull, OSError.
    """
    resolved = store.resolve_output(path)
    records = store.models_dir / RUNS_FOLDER / OUTPUT_RECORDS_FOLDER
    owner = hashlib.sha256(f"{record.run} {record.uid}".encode()).hexdigest()
    taken = records / f"{_TAKEN}{owner[:32]}"
    with raise_disk_full(store.models_dir):
        create_folder(records)
        create_folder(resolved.parent)
        _remove_leftovers(records, now())
        try:
            _take(store.run(record.run).path / OUTPUT_FILE, taken)
            # The record first: a file without one would count as a user's, which may not be written over.
            write_atomically(_record_path(store, resolved), json.dumps({**asdict(record), "path": path}).encode())
            # Resolved again: what was a folder before may be a link now.
            os.replace(taken, store.resolve_output(path))
        except FileNotFoundError as error:
            if os.path.lexists(taken):
                raise OSError(f"{resolved.parent} was removed meanwhile") from error
            before = written_by(store, path)
            if before is None or (before.run, before.uid) != (record.run, record.uid):
                raise
        sync_folder(resolved.parent)
    return resolved


def _take(prepared: Path, taken: Path) -> None:
    """Move ``prepared`` to where its trainer cannot exchange it, unless an earlier call has. Raises Damaged, OSError.

    The name is the run's own, so every call for the run finds what another one has taken.
    """
    if os.path.lexists(prepared):  # a newer file of the run
        discard(taken)
        with contextlib.suppress(FileNotFoundError):  # another call has been faster
            os.rename(prepared, taken)
    try:
        _check(taken, prepared)
    except Damaged:
        discard(taken)
        raise


def _remove_leftovers(records: Path, now: float) -> None:
    for name in os.listdir(records):
        with contextlib.suppress(OSError):
            if name.startswith(_TAKEN) and now - os.lstat(records / name).st_ctime > _TAKEN_SECONDS:
                discard(records / name)


def _check(taken: Path, shown: Path) -> None:
    status = os.lstat(taken)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise Damaged(shown, "is not a regular file of its own")


def _record_path(store: RunStore, resolved: Path) -> Path:
    """Where the record of a file is. Where the file system ignores case, every spelling of its path has the same."""
    runs = store.models_dir / RUNS_FOLDER
    try:
        ignores_case = os.path.samefile(runs, runs.with_name(RUNS_FOLDER.upper()))
    except OSError:
        ignores_case = False
    name = resolved.relative_to(store.models_dir.resolve()).as_posix()
    digest = hashlib.sha256((name.casefold() if ignores_case else name).encode("utf-8", "surrogateescape")).hexdigest()
    return runs / OUTPUT_RECORDS_FOLDER / f"{digest}.json"
