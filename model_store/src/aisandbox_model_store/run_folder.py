"""The folder of one run: reading what was published.

Owns the layout below RUN/ and the resolution of selectors and pointers. Every published folder is immutable: a step
that is published again with other contents gets a new folder (STEP.2, STEP.3, ...), so a reader never sees one change.
Must not write, except to set a damaged checkpoint aside; writing is :mod:`aisandbox_model_store.writer`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aisandbox_model_store.atomic_file import sync_folder, write_durably
from aisandbox_model_store.errors import Damaged, ModelNotFound, RunNotFound
from aisandbox_model_store.layout import (
    CHECKPOINTS_FOLDER,
    LOGS_FOLDER,
    MANIFEST_FILE,
    MODELS_FOLDER,
    REASON_FILE,
    RECORD_FILE,
)
from aisandbox_model_store.manifest import Manifest, read_files, read_manifest, verify_folder
from aisandbox_model_store.ownership import uid_of
from aisandbox_model_store.sealed import unseal
from aisandbox_model_store.selector import ModelSelector, parse_selector

if TYPE_CHECKING:
    from aisandbox_model_store.writer import Writer

_ARTIFACT = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,6}))?")
_POINTER_KEYS = frozenset({"folder", "timesteps", "digest", "reward_mean"})
_UNREADABLE = frozenset({errno.EIO, errno.ENOTDIR, errno.EISDIR, getattr(errno, "EUCLEAN", errno.EIO), errno.EBADMSG})
"""What a broken disk answers, or a file in the place of a folder; not what a right or a mount that is missing does."""
_LOAD_TRIES = 8
"""A reader may lose the race against a writer that moves `latest` and removes what it named; it then reads anew."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published model or checkpoint.

    ``path`` is absolute, ``relative`` is to the run's folder ("models/20000"), ``digest`` is "sha256:" and the SHA-256
    of manifest.json, which is the identity of the artefact.
    """

    path: Path
    relative: str
    timesteps: int
    digest: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Pointer:
    """What latest, best or final names: a folder below models/ and its digest."""

    folder: str
    timesteps: int
    digest: str
    reward_mean: float | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """The verified bytes of every file of a published folder."""

    published: Published
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of the run ``run_id``; none of its paths need exist."""

    run_id: str
    path: Path
    checkpoints_path: Path
    resolve_output: Callable[[str], Path]

    @property
    def models_path(self) -> Path:
        """Where models and the pointers to them lie."""
        return self.path / MODELS_FOLDER

    @property
    def logs_path(self) -> Path:
        """Where TensorBoard files and the trainer's log lie."""
        return self.path / LOGS_FOLDER

    @property
    def record_path(self) -> Path:
        """Where the local backend keeps the run's record."""
        return self.path / RECORD_FILE

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that are this run's alone: one below MODELS_DIR, one below CHECKPOINT_DIR if that is apart."""
        return tuple(dict.fromkeys((self.path, self.checkpoints_path.parent)))

    def uid(self) -> str:
        """Return the uid of the run that has claimed the folder; empty if it had none. Raises OSError."""
        return uid_of(self.path)

    def claim(self, attempt: int | None, uid: str = "") -> Writer:
        """Take the run over for an attempt, or for the next one (None), and return what publishes for it.

        From the return on, no older attempt can publish anything; what dead ones left half-written is removed.
        With a ``uid``, the folder of an earlier run of the same name is set aside first, and nothing of it is used.
        Raises Fenced if a newer attempt has claimed the run, Replaced if a newer run has, DiskFull, OSError.
        """
        from aisandbox_model_store.writer import claim  # a writer is a reader too, hence imports this module

        return claim(self, attempt, uid)

    def models(self) -> list[Published]:
        """Return the published models, newest first; a folder whose manifest cannot be read is left out."""
        return _published(self.models_path, MODELS_FOLDER)

    def checkpoints(self) -> list[Published]:
        """Return the published checkpoints, newest first; their files are not read."""
        return _published(self.checkpoints_path, CHECKPOINTS_FOLDER)

    def model(self, selector: str) -> Published:
        """Return the model that ``selector`` names; its files are not read.

        Raises InvalidSelector, RunNotFound, ModelNotFound, Damaged (the folder is not the one the pointer names).
        """
        parsed = parse_selector(selector)
        if parsed.pointer:
            return self._pointed_model(parsed.pointer)
        for published in self.models():
            if parsed.timesteps == published.timesteps or parsed.digest == published.digest:
                return published
        raise self._not_found(selector, parsed)

    def pointer(self, name: str) -> Pointer | None:
        """Return what the pointer ``name`` (latest, best, final) names now, or None. Raises Damaged."""
        path = self.models_path / name
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _raise_if_damage(path, error)
            raise
        return _parse_pointer(path, data)

    def _pointed_model(self, name: str) -> Published:
        pointer = self.pointer(name)
        if pointer is None:
            raise self._not_found(name, ModelSelector(pointer=name))
        folder = self.models_path / pointer.folder
        try:
            published = _read_published(folder, MODELS_FOLDER)
        except FileNotFoundError as error:
            # Gone on purpose if the pointer has moved since, which the caller finds out by asking again.
            raise ModelNotFound(self.run_id, name, f"{folder.name} has been removed") from error
        if published.digest != pointer.digest:
            raise Damaged(folder, f"its manifest is not the one that {name!r} names")
        return published

    def _not_found(self, selector: str, parsed: ModelSelector) -> RunNotFound | ModelNotFound:
        if not self.path.is_dir():
            return RunNotFound(self.run_id)
        if parsed.pointer == "final":
            return ModelNotFound(self.run_id, selector, "the final model is published when the run succeeds")
        if parsed.pointer == "best":
            return ModelNotFound(self.run_id, selector, "no model has been rated yet")
        if parsed.pointer or not self.models():
            return ModelNotFound(self.run_id, selector or "latest", "no model is published yet")
        steps = ", ".join(str(published.timesteps) for published in self.models()[:10])
        return ModelNotFound(self.run_id, selector, f"there are models of the steps {steps}")

    def read_model(self, published: Published) -> Bundle:
        """Return the bytes of every file, each read once and compared with the manifest.

        Raises Damaged, ModelNotFound (the model has been removed meanwhile), OSError.
        """
        try:
            return Bundle(published, read_files(published.path, published.manifest))
        except FileNotFoundError as error:
            raise ModelNotFound(self.run_id, published.digest, "it has been removed") from error
        except Damaged as error:
            if not published.path.exists():  # a removal looks like a missing file while it is under way
                raise ModelNotFound(self.run_id, published.digest, "it has been removed") from error
            raise

    def load_model(self, selector: str) -> Bundle:
        """Resolve ``selector`` and read that model, again if it was replaced and removed in between.

        Raises InvalidSelector, RunNotFound, ModelNotFound, Damaged, OSError.
        """
        for _ in range(_LOAD_TRIES - 1):
            before = self._pointer_bytes(selector)
            try:
                return self.read_model(self.model(selector))
            except (ModelNotFound, Damaged):
                if self._pointer_bytes(selector) == before:
                    raise
        return self.read_model(self.model(selector))

    def _pointer_bytes(self, selector: str) -> bytes | None:
        try:
            return (self.models_path / parse_selector(selector).pointer).read_bytes()
        except OSError:
            return None

    def newest_checkpoint(self, on_damaged: Callable[[str, str], None] | None = None) -> Published | None:
        """Return the newest checkpoint whose every byte is as published, or None. For the trainer: reads all of it.

        A damaged one is renamed to damaged-STEP-... with the reason in reason.txt, and the one before is tried;
        ``on_damaged`` is told its name and the reason. Raises OSError for what says nothing of a checkpoint, as a right
        that is missing, and if the disk fails without a whole one left.
        """

        def set_aside(folder: Path, reason: str) -> None:
            _set_aside(folder, reason)
            if on_damaged is not None:
                on_damaged(folder.name, reason)

        whole, damaged, unreadable = None, [], None
        for name in _artifact_names(self.checkpoints_path):
            folder = self.checkpoints_path / name
            try:
                whole = _verified(folder)
                break
            except FileNotFoundError:
                if folder.is_dir():
                    damaged.append((folder, f"{MANIFEST_FILE} is missing"))
            except Damaged as error:
                damaged.append((folder, error.why))
                if isinstance(error.__cause__, OSError):
                    unreadable = error.__cause__
        if whole is None and unreadable is not None:
            raise unreadable  # the disk as a whole: nothing is given up for that
        for folder, reason in damaged:
            set_aside(folder, reason)
        return whole


def _verified(folder: Path) -> Published:
    """Return the checkpoint, read whole; a second time if the disk fails once. Raises Damaged, OSError."""
    try:
        return _read_whole(folder)
    except Damaged as error:
        if not isinstance(error.__cause__, OSError):
            raise
        return _read_whole(folder)


def _read_whole(folder: Path) -> Published:
    try:
        published = _read_published(folder, CHECKPOINTS_FOLDER)
        verify_folder(folder, published.manifest)
    except OSError as error:
        _raise_if_damage(folder, error)
        raise
    return published


def _raise_if_damage(path: Path, error: OSError) -> None:
    if error.errno in _UNREADABLE:
        raise Damaged(path, f"it cannot be read: {error.strerror}") from error


def _published(parent: Path, relative: str) -> list[Published]:
    found = []
    for name in _artifact_names(parent):
        try:
            found.append(_read_published(parent / name, relative))
        except (OSError, Damaged):  # being removed, or found out by whoever reads it by name
            continue
    return found


def _artifact_names(parent: Path) -> list[str]:
    """Return the names of the folders of artefacts, newest first: by timesteps, then by generation."""
    try:
        names = os.listdir(parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((name for name in names if _ARTIFACT.fullmatch(name)), key=artifact_order, reverse=True)


def artifact_order(name: str) -> tuple[int, int]:
    """Return (timesteps, generation) of the folder name "20000" or "20000.2"."""
    match = _ARTIFACT.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} does not name an artefact")
    return int(match.group(1)), int(match.group(2) or 1)


def next_name(parent: Path, timesteps: int) -> str:
    """Return a name for one more artefact of that step, newer than those there are."""
    newest = max(
        (artifact_order(name) for name in _artifact_names(parent)),
        key=lambda x: (x[0] == timesteps, x),
        default=(-1, 0),
    )
    return f"{timesteps}.{newest[1] + 1}" if newest[0] == timesteps else str(timesteps)


def _read_published(folder: Path, relative: str) -> Published:
    manifest, digest = read_manifest(folder)
    if manifest.timesteps != artifact_order(folder.name)[0]:
        raise Damaged(folder, f"its manifest is of step {manifest.timesteps}")
    return Published(folder, f"{relative}/{folder.name}", manifest.timesteps, digest, manifest)


def _parse_pointer(path: Path, data: bytes) -> Pointer:
    try:
        document = unseal(data, _POINTER_KEYS)
        if document.get("name", path.name) != path.name:
            raise ValueError(f"it is the pointer {document['name']!r}")
        reward = document.get("reward_mean")
        pointer = Pointer(
            folder=str(document["folder"]),
            timesteps=int(document["timesteps"]),
            digest=str(document["digest"]),
            reward_mean=None if reward is None else float(reward),
        )
        artifact_order(pointer.folder)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(path, f"it is not a pointer ({error})") from error
    return pointer


def _set_aside(folder: Path, reason: str) -> None:
    aside = folder.with_name(f"damaged-{folder.name}-{secrets.token_hex(4)}")
    try:
        os.rename(folder, aside)
        (aside / REASON_FILE).unlink(missing_ok=True)
        write_durably(aside / REASON_FILE, f"{reason}\n".encode())
        sync_folder(folder.parent)
    except OSError:
        # A full or read-only disk must not keep the run from going on; the folder is only skipped then.
        return
