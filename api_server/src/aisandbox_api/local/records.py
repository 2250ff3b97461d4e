"""The records of runs on disk: MODELS_DIR/runs/RUN/trainingrun.json.

Owns reading, writing and the renaming of damaged ones. Must not know what a run does.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import structlog
from aisandbox_crds import TrainingRun, run_from_json, run_to_json
from aisandbox_model_store import LARGEST_RECORD, Damaged, RunStore, create_folder, read_regular, write_atomically

log = structlog.get_logger()

_ASIDE = "trainingrun.json.damaged-"


class RecordStore:
    """Reads and writes the records below ``store``. Blocking."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def write(self, run: TrainingRun) -> None:
        """Makes the record durable. Raises DiskFull, OSError; then the record before it is untouched."""
        path = self._store.run(run.name).record_path
        try:
            create_folder(path.parent)
            write_atomically(path, json.dumps(run_to_json(run), indent=1).encode() + b"\n")
        except BaseException:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # only if it is empty: a start that was refused leaves nothing
            raise

    def load(self) -> Iterator[TrainingRun]:
        """Every readable record. A damaged one is logged and renamed: it neither stops the others nor is lost."""
        for run_id in self._store.run_ids():
            path = self._store.run(run_id).record_path
            try:
                run = run_from_json(json.loads(read_regular(path, LARGEST_RECORD)))
                if run.name != run_id:
                    raise ValueError(f"it is the record of {run.name!r}")
            except FileNotFoundError:
                continue
            except (ValueError, RecursionError, OSError, Damaged) as error:
                _rename_damaged(path, error)
            else:
                yield run

    def damaged(self, name: str) -> Path | None:
        """Where the damaged record of a run was put, if it had one. Raises InvalidRunId."""
        return next(self._store.run(name).path.glob(_ASIDE + "*"), None)


def _rename_damaged(path: Path, why: Exception) -> None:
    aside = path.with_name(_ASIDE + secrets.token_hex(4))
    try:
        os.rename(path, aside)
    except OSError as error:
        log.error("record of a run is damaged and cannot be renamed", record=str(path), why=str(why), error=str(error))
        return
    log.error("record of a run is damaged and was renamed", run=path.parent.name, record=str(aside), why=str(why))
