"""``python -m aisandbox_model_store.prepare``: makes the folders that a trainer's pod mounts, before it starts.

A trainer mounts its run's folder and, read-only, what the run starts from and its demonstrations; nothing else of the
volume. This program has all of it, runs none of a run's code, and ends before the trainer starts. What the run reads is
mounted by links beside the folders of runs, where no trainer can change them: so there is always something to mount,
also when the source was deleted since. Must not know what is in the folders.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from aisandbox_model_store.atomic_file import create_folder, remove_on_error
from aisandbox_model_store.errors import ModelStoreError, OutsideRoot
from aisandbox_model_store.layout import DEMONSTRATIONS_SUFFIX, RUNS_FOLDER, SOURCES_FOLDER
from aisandbox_model_store.ownership import take_ownership
from aisandbox_model_store.run_store import RunStore

PAUSE_SECONDS = 1.0
_STOPPED = 143
_NOTHING = ".none"
"""Beside the links: the empty folder that is mounted for a source that does not exist. No run has the name."""


def prepare(environ: Mapping[str, str], sleep: Callable[[float], None] = time.sleep) -> None:
    """Makes the folder of the run its own, as :meth:`.RunFolder.claim` does, and the links to what it reads.

    Files of an earlier run of the name stay where they are for EARLIER_RUN_PATIENCE_SECONDS: this run may be about to
    be restored from a backup. Raises KeyError for a variable that is missing, ValueError, ModelStoreError, OSError.
    """
    store, uid = RunStore(Path(environ["MODELS_DIR"])), environ["RUN_UID"]
    run = store.run(environ["RUN_ID"])
    left = float(environ.get("EARLIER_RUN_PATIENCE_SECONDS") or 60.0)
    if earlier := run.earlier_owner(uid):
        print(f"an earlier run of this name, {earlier}, has files here: they are set aside in {left:.0f} s", flush=True)
    while run.earlier_owner(uid) and left > 0:
        sleep(min(left, PAUSE_SECONDS))
        left -= PAUSE_SECONDS
    take_ownership(run.path, uid)
    links = store.models_dir / RUNS_FOLDER / SOURCES_FOLDER
    if source := environ.get("START_FROM_RUN"):
        _link(links / run.run_id, store.run(source).path.relative_to(store.models_dir))
    elif file := environ.get("START_FROM_ZIP"):
        _link(links / run.run_id, _file(store, file))
    if file := environ.get("DEMONSTRATIONS"):
        _link(links / f"{run.run_id}{DEMONSTRATIONS_SUFFIX}", _file(store, file))


def _file(store: RunStore, path: str) -> Path:
    """Where a file of users is, relative to MODELS_DIR, whether it exists or not."""
    try:
        return store.resolve_output(path).relative_to(store.models_dir.resolve())
    except OutsideRoot:
        return Path(RUNS_FOLDER, SOURCES_FOLDER, _NOTHING)  # the trainer refuses it with the reason


def _link(path: Path, source: Path) -> None:
    """Puts at ``path`` a link to the source below MODELS_DIR, or to an empty folder if there is none.

    Another pod of the run may do the same at this moment: each puts its own link there in one step.
    """
    create_folder(path.parent)
    target = Path("..", "..", source)
    if not (path.parent / target).exists():
        create_folder(path.with_name(_NOTHING))
        target = Path(_NOTHING)
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    with remove_on_error(temporary):
        temporary.symlink_to(target)
        os.replace(temporary, path)


def _stop(number: int, frame: object) -> None:
    raise SystemExit(_STOPPED)


def main() -> int:
    """0, or 1 with the reason on stderr."""
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container ignores it otherwise
    try:
        prepare(os.environ)
    except (KeyError, ValueError, ModelStoreError, OSError) as error:
        print(f"the folder of the run cannot be prepared: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
