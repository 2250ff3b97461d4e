"""The manifest of a published folder: the size and SHA-256 of every file, written last.

Owns the form of manifest.json and the comparison of a folder with it. A folder without one is not published; the
digest of its bytes is the identity of the artifact. Neither the folder nor the one above it, which belong to the run,
may be a link. Must not know where folders are or what the files mean.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aisandbox_model_store.checksummed_json import decode, encode
from aisandbox_model_store.errors import Damaged, InvalidArtifact
from aisandbox_model_store.layout import MANIFEST_FILE
from aisandbox_model_store.regular_file import list_folder, open_regular, read_regular

_FORMAT = 1
_KEYS_WITHOUT_CHECKSUM = frozenset({"format", "kind", "timesteps", "details", "files"})
_LARGEST_MANIFEST = 1 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file's size in bytes and SHA-256 in lower-case hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published folder holds. ``kind`` is "model" or "checkpoint"; ``details`` are free text for people."""

    kind: str
    timesteps: int
    files: Mapping[str, FileEntry]
    details: Mapping[str, str]

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    def to_bytes(self) -> bytes:
        """Return the bytes of manifest.json: equal contents give equal bytes, so it has neither time nor attempt."""
        document = {
            "format": _FORMAT,
            "kind": self.kind,
            "timesteps": self.timesteps,
            "details": dict(self.details),
            "files": {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in self.files.items()},
        }
        return encode(document)


def digest_of(data: bytes) -> str:
    """Return ``"sha256:"`` and the digest of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Return the manifest of a published folder and its digest. Raises FileNotFoundError, Damaged."""
    data = _read_limited(folder)
    try:
        manifest = _parse(decode(data, _KEYS_WITHOUT_CHECKSUM))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Damaged(folder, f"{MANIFEST_FILE} is not a manifest ({error})") from error
    return manifest, digest_of(data)


def _read_limited(folder: Path) -> bytes:
    with open_regular(folder / MANIFEST_FILE, _run_of(folder)) as file:
        data = file.read(_LARGEST_MANIFEST + 1)
    if len(data) > _LARGEST_MANIFEST:
        raise Damaged(folder, f"{MANIFEST_FILE} is larger than {_LARGEST_MANIFEST} bytes")
    return data


def _parse(document: Any) -> Manifest:
    if document["format"] != _FORMAT:
        raise ValueError(f"format {document['format']!r} instead of {_FORMAT}")
    files = {}
    for name, entry in document["files"].items():
        if not _is_plain(name):
            raise ValueError(f"file name {name!r}")
        os.fsencode(name)  # UnicodeEncodeError, a ValueError, for what is the name of no file
        files[name] = FileEntry(size=_count(entry["size"]), sha256=str(entry["sha256"]))
    details = {str(key): str(value) for key, value in document["details"].items()}
    return Manifest(str(document["kind"]), _count(document["timesteps"]), files, details)


def _count(value: Any) -> int:
    if not 0 <= (count := int(value)) < 10**18:
        raise ValueError(f"the number {value}")
    return count


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..", MANIFEST_FILE) and not set(name) & set("/\\\0:")


def describe_folder(folder: Path, kind: str, timesteps: int, details: Mapping[str, str]) -> Manifest:
    """Return the manifest of the files in ``folder``. Raises InvalidArtifact, OSError."""
    files = {}
    for name in sorted(os.listdir(folder)):
        if not _is_plain(name) or not stat.S_ISREG(os.lstat(folder / name).st_mode):
            raise InvalidArtifact(name, "an artifact is a flat folder of regular files")
        files[name] = entry_of(folder / name)
    if not files:
        raise InvalidArtifact(str(timesteps), "an artifact has at least one file")
    return Manifest(kind, timesteps, files, dict(details))


def entry_of(path: Path, below: Path | None = None) -> FileEntry:
    """Return a file's size and digest without holding it in memory: a replay buffer may have gigabytes.

    ``below`` as of :func:`.open_regular`.
    """
    with open_regular(path, below) as file:
        return entry_of_open(file)


def entry_of_open(file: BinaryIO, check: Callable[[], None] | None = None) -> FileEntry:
    """Return the same of an open file, from where it is to its end. ``check`` is called meanwhile, and may raise."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        if check is not None:
            check()
        digest.update(chunk)
        size += len(chunk)
    return FileEntry(size, digest.hexdigest())


def verify_folder(folder: Path, manifest: Manifest) -> None:
    """Compare every byte of a folder with its manifest. Raises Damaged naming the first difference, OSError."""
    check_names(folder, manifest)
    for name, entry in manifest.files.items():
        _check(folder, name, entry, entry_of(folder / name, _run_of(folder)))


def read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Return the verified bytes of every file, each read once. Raises Damaged, OSError."""
    check_names(folder, manifest)
    return {name: read_file(folder, manifest, name) for name in manifest.files}


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return the verified bytes of one file, read once. Raises Damaged, also if it has no such file, OSError."""
    entry = manifest.files.get(name)
    if entry is None:
        raise Damaged(folder, f"{name} is missing")
    data = read_regular(folder / name, entry.size, _run_of(folder))
    _check(folder, name, entry, FileEntry(len(data), hashlib.sha256(data).hexdigest()))
    return data


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raise Damaged unless the folder holds exactly the manifest's files, with their sizes; reads no contents."""
    found = list_folder(folder, _run_of(folder))
    if missing := sorted(set(manifest.files) - set(found)):
        raise Damaged(folder, f"{missing[0]} is missing")
    if extra := sorted(set(found) - {MANIFEST_FILE} - set(manifest.files)):
        raise Damaged(folder, f"{extra[0]} is not in {MANIFEST_FILE}")
    for name, entry in manifest.files.items():
        status = found[name]
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(folder, f"{name} is not a regular file")
        if status.st_size != entry.size:
            raise Damaged(folder, f"{name} has {status.st_size} bytes instead of {entry.size}")


def _run_of(folder: Path) -> Path:
    """The folder of the run, which the run's own code cannot exchange; it can exchange what is in it."""
    return folder.parents[1]


def _check(folder: Path, name: str, expected: FileEntry, found: FileEntry) -> None:
    if found.size != expected.size:
        raise Damaged(folder, f"{name} has {found.size} bytes instead of {expected.size}")
    if found.sha256 != expected.sha256:
        raise Damaged(folder, f"the contents of {name} changed after publication")
