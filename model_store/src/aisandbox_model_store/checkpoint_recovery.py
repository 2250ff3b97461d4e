"""The newest intact checkpoint of a run, from which a trainer resumes.

Owns what happens to damaged checkpoints: they are renamed, with the reason, and an older one is used. Must not know
what is in a checkpoint.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from aisandbox_model_store.artifacts import Published, artifact_names, raise_if_damage, read_published
from aisandbox_model_store.atomic_file import sync_folder, write_durably
from aisandbox_model_store.errors import Damaged
from aisandbox_model_store.layout import MANIFEST_FILE, REASON_FILE
from aisandbox_model_store.manifest import verify_folder
from aisandbox_model_store.signatures import CheckpointKey, signature_problem


def newest_intact_checkpoint(
    checkpoints_path: Path,
    on_damaged: Callable[[str, str], None] | None = None,
    key: CheckpointKey | None = None,
) -> Published | None:
    """Return the newest checkpoint whose every byte is as published, or None; see RunFolder.newest_checkpoint."""
    intact: Published | None = None
    damaged: list[tuple[Path, str]] = []
    disk_error: OSError | None = None
    for name in artifact_names(checkpoints_path):
        folder = checkpoints_path / name
        try:
            intact = _read_verified(folder, key)
            break
        except FileNotFoundError:
            if folder.is_dir():
                damaged.append((folder, f"{MANIFEST_FILE} is missing"))
        except Damaged as error:
            damaged.append((folder, error.why))
            if isinstance(error.__cause__, OSError):
                disk_error = error.__cause__
    if intact is None and disk_error is not None:
        raise disk_error  # the disk as a whole may fail: no checkpoint is given up for that
    for folder, reason in damaged:
        _rename_damaged(folder, reason)
        if on_damaged is not None:
            on_damaged(folder.name, reason)
    return intact


def _read_verified(folder: Path, key: CheckpointKey | None) -> Published:
    """Return the checkpoint after reading all of it; tries again if the disk fails once. Raises Damaged, OSError."""
    try:
        return _read_and_compare(folder, key)
    except Damaged as error:
        if not isinstance(error.__cause__, OSError):
            raise
        return _read_and_compare(folder, key)


def _read_and_compare(folder: Path, key: CheckpointKey | None) -> Published:
    try:
        published = read_published(folder)
        if key is not None and (problem := signature_problem(published.manifest, key)):
            raise Damaged(folder, problem)
        verify_folder(folder, published.manifest)
    except OSError as error:
        raise_if_damage(folder, error)
        raise
    return published


def _rename_damaged(folder: Path, reason: str) -> None:
    aside = folder.with_name(f"damaged-{folder.name}-{secrets.token_hex(4)}")
    try:
        os.rename(folder, aside)
        (aside / REASON_FILE).unlink(missing_ok=True)
        write_durably(aside / REASON_FILE, f"{reason}\n".encode())
        sync_folder(folder.parent)
    except OSError:
        # A full or read-only disk must not stop the run; the checkpoint is only skipped then.
        return
