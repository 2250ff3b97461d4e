"""Published models and checkpoints, "artifacts": a folder each, named by the timestep.

Every published folder is immutable: a step that is published again with other contents gets a new folder (STEP.2,
STEP.3, ...), so a reader never sees one change. Owns these names, their order, and which of the disk's errors mean
that an artifact is damaged. Must not write.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aisandbox_model_store.errors import Damaged
from aisandbox_model_store.manifest import Manifest, read_manifest

_NAME = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,6}))?")
_DAMAGE = frozenset({errno.EIO, errno.ENOTDIR, errno.EISDIR, getattr(errno, "EUCLEAN", errno.EIO), errno.EBADMSG})
"""The errors of a broken disk, or of a file in the place of a folder; not those of a missing permission or mount."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published model or checkpoint.

    ``path`` is absolute, ``relative`` is to the run's folder ("models/20000"), ``digest`` is "sha256:" and the SHA-256
    of manifest.json, which is the identity of the artifact.
    """

    path: Path
    relative: str
    timesteps: int
    digest: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """The verified bytes of every file of an artifact, by their names."""

    published: Published
    files: Mapping[str, bytes]


def read_published(folder: Path) -> Published:
    """Return the artifact in ``folder``; of its files only the manifest is read.

    Raises FileNotFoundError if nothing is published there, Damaged, OSError.
    """
    manifest, digest = read_manifest(folder)
    if manifest.timesteps != artifact_order(folder.name)[0]:
        raise Damaged(folder, f"its manifest is of step {manifest.timesteps}")
    return Published(folder, f"{folder.parent.name}/{folder.name}", manifest.timesteps, digest, manifest)


def list_published(parent: Path) -> list[Published]:
    """Return the artifacts below ``parent``, newest first; one whose manifest cannot be read is left out."""
    found = []
    for name in artifact_names(parent):
        try:
            found.append(read_published(parent / name))
        except (OSError, Damaged):  # it is being removed, or whoever reads it by its name gets the error
            continue
    return found


def artifact_names(parent: Path) -> list[str]:
    """Return the names of the folders of artifacts below ``parent``, newest first."""
    try:
        names = os.listdir(parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((name for name in names if _NAME.fullmatch(name)), key=artifact_order, reverse=True)


def artifact_order(name: str) -> tuple[int, int]:
    """Return (timesteps, generation) of the folder name "20000" or "20000.2". Raises ValueError."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of an artifact")
    return int(match.group(1)), int(match.group(2) or 1)


def next_name(parent: Path, timesteps: int) -> str:
    """Return the name of a new artifact of that step below ``parent``, newer than the existing ones."""
    orders = [artifact_order(name) for name in artifact_names(parent)]
    newest = max((generation for steps, generation in orders if steps == timesteps), default=0)
    return f"{timesteps}.{newest + 1}" if newest else str(timesteps)


def raise_if_damage(path: Path, error: OSError) -> None:
    """Raise Damaged if ``error`` means that the file or folder ``path`` is lost."""
    if error.errno in _DAMAGE:
        raise Damaged(path, f"it cannot be read: {error.strerror}") from error
