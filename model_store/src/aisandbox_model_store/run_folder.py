"""The folder of one run: what has been published in it.

Owns the layout below RUN/ and the resolution of selectors. Must not write: :mod:`aisandbox_model_store.writer`
publishes, :mod:`aisandbox_model_store.checkpoint_recovery` sets damaged checkpoints aside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aisandbox_model_store.artifacts import (
    Bundle,
    Published,
    artifact_names,
    list_published,
    raise_if_damage,
    read_published,
)
from aisandbox_model_store.attempts import check_newest
from aisandbox_model_store.checkpoint_recovery import newest_intact_checkpoint
from aisandbox_model_store.errors import CheckpointNotFound, Damaged, InvalidSelector, ModelNotFound, RunNotFound
from aisandbox_model_store.layout import (
    ATTEMPTS_FOLDER,
    DEMONSTRATIONS_FILE,
    LOGS_FOLDER,
    MODELS_FOLDER,
    RECORD_FILE,
    SOURCE_FILE,
    WEIGHTS_FOLDER,
)
from aisandbox_model_store.manifest import read_file, read_files, verify_folder
from aisandbox_model_store.ownership import uid_of
from aisandbox_model_store.regular_file import read_regular
from aisandbox_model_store.selection import ModelSelector, Pointer, decode_pointer, parse_selector
from aisandbox_model_store.signatures import CheckpointKey

if TYPE_CHECKING:
    from aisandbox_model_store.writer import Writer

MODEL_DETAIL = "model"
"""The detail of the manifest of weights with the digest of their model."""
LARGEST_POINTER = 64 * 1024
"""Bytes."""
_LOAD_ATTEMPTS = 8
"""A writer may move `latest` and remove the model it pointed to while a reader loads it: the reader tries again."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of the run ``run_id``; none of its paths needs to exist."""

    run_id: str
    path: Path
    checkpoints_path: Path
    resolve_output: Callable[[str], Path]

    @property
    def models_path(self) -> Path:
        """The folder of the models and the pointers to them."""
        return self.path / MODELS_FOLDER

    @property
    def weights_path(self) -> Path:
        """The folder of the weights of the models."""
        return self.path / WEIGHTS_FOLDER

    @property
    def source_path(self) -> Path:
        """The file that says what the run starts from; only of a run that starts from something."""
        return self.path / SOURCE_FILE

    @property
    def demonstrations_path(self) -> Path:
        """The file that says which demonstrations the run learns from; only of a run that has some."""
        return self.path / DEMONSTRATIONS_FILE

    @property
    def logs_path(self) -> Path:
        """The folder of TensorBoard files and the trainer's log."""
        return self.path / LOGS_FOLDER

    @property
    def record_path(self) -> Path:
        """The run's record, which the local backend keeps."""
        return self.path / RECORD_FILE

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that belong to this run alone: below MODELS_DIR, and below CHECKPOINT_DIR if that is another."""
        return tuple(dict.fromkeys((self.path, self.checkpoints_path.parent)))

    def uid(self) -> str:
        """Return the uid with which the run was claimed; empty if there was none. Raises OSError."""
        return uid_of(self.path)

    def earlier_owner(self, uid: str) -> str:
        """Return the uid of another run that has published something here; empty if none has. Raises OSError."""
        for root, published in ((self.path, self.models_path), (self.roots[-1], self.checkpoints_path)):
            owner = uid_of(root)
            if owner not in ("", uid) and artifact_names(published):
                return owner
        return ""

    def claim(self, attempt: int | None, uid: str = "", key: CheckpointKey | None = None) -> Writer:
        """Claim the run for an attempt, None: the next one, and return the writer that publishes for it.

        From the return on, no older attempt can publish anything; half-written files of older attempts are removed.
        With a ``uid``, the folder of an earlier run of the same name is renamed first, and nothing of it is used. With
        a ``key``, checkpoints get a keyed digest.
        Raises Fenced if a newer attempt has claimed the run, RunReplaced if a newer run has, DiskFull, OSError.
        """
        from aisandbox_model_store.writer import claim  # here, because a writer also reads: it imports this module

        return claim(self, attempt, uid, key)

    def check_attempt(self, attempt: int) -> None:
        """Raise Fenced if an attempt newer than ``attempt`` has claimed the run. Raises OSError."""
        check_newest(self.path / ATTEMPTS_FOLDER, attempt)

    def models(self) -> list[Published]:
        """Return the published models, newest first; a folder whose manifest cannot be read is left out."""
        return list_published(self.models_path)

    def checkpoints(self) -> list[Published]:
        """Return the published checkpoints, newest first; their files are not read."""
        return list_published(self.checkpoints_path)

    def model(self, selector: str) -> Published:
        """Return the model that ``selector`` names; its files are not read.

        Raises InvalidSelector, RunNotFound, ModelNotFound, Damaged (the folder has changed since the
        pointer was written), OSError.
        """
        parsed = parse_selector(selector)
        if parsed.pointer:
            return self._pointed_model(parsed.pointer)
        for published in self.models():
            if parsed.timesteps == published.timesteps or parsed.digest == published.digest:
                return published
        raise self._not_found(selector, parsed)

    def checkpoint(self, selector: str) -> Published:
        """Return the checkpoint that ``selector`` names: latest, step:N or sha256:...; its files are not read.

        For a run that starts from this one: nothing here is changed. Raises InvalidSelector, RunNotFound,
        CheckpointNotFound.
        """
        parsed = parse_selector(selector)
        if parsed.pointer not in ("", "latest"):
            raise InvalidSelector(selector, "must be latest, step:N or sha256: and 64 hexadecimal digits")
        checkpoints = self.checkpoints()
        for published in checkpoints:
            if parsed.pointer or parsed.timesteps == published.timesteps or parsed.digest == published.digest:
                return published
        if not self._has_files():
            raise RunNotFound(self.run_id)
        steps = ", ".join(str(published.timesteps) for published in checkpoints)
        why = f"it has checkpoints of the steps {steps}" if steps else "no checkpoint is published yet"
        raise CheckpointNotFound(self.run_id, selector, why)

    def weights_of(self, model: Published) -> Published:
        """Return the weights of a model. Raises ModelNotFound for one of a version that did not publish them."""
        for published in list_published(self.weights_path):
            if published.manifest.details.get(MODEL_DETAIL) == model.digest:
                return published
        raise ModelNotFound(self.run_id, model.digest, "its weights are not published; a checkpoint has them too")

    def verify(self, published: Published) -> None:
        """Compare every byte of an artifact with its manifest. Raises Damaged, OSError."""
        verify_folder(published.path, published.manifest)

    def read(self, published: Published, name: str) -> bytes:
        """Return the contents of a file of an artifact, read once and then compared. Raises Damaged, OSError."""
        return read_file(published.path, published.manifest, name)

    def pointer(self, name: str) -> Pointer | None:
        """Return what ``name`` (latest, best, final) points to now, or None. Raises Damaged, OSError."""
        path = self.models_path / name
        try:
            data = read_regular(path, LARGEST_POINTER, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise_if_damage(path, error)
            raise
        return decode_pointer(path, data)

    def _pointed_model(self, name: str) -> Published:
        pointer = self.pointer(name)
        if pointer is None:
            raise self._not_found(name, ModelSelector(pointer=name))
        folder = self.models_path / pointer.folder
        try:
            published = read_published(folder)
        except FileNotFoundError as error:
            # Removed on purpose if the pointer has moved meanwhile: the caller finds out by trying again.
            raise ModelNotFound(self.run_id, name, f"{folder.name} has been removed") from error
        if published.digest != pointer.digest:
            raise Damaged(folder, f"its manifest is not the one that {name!r} points to")
        return published

    def _has_files(self) -> bool:
        """An empty folder is what a trainer's pod mounts for a run that is not there."""
        return self.path.is_dir() and any(self.path.iterdir())

    def _not_found(self, selector: str, parsed: ModelSelector) -> RunNotFound | ModelNotFound:
        if not self._has_files():
            return RunNotFound(self.run_id)
        if parsed.pointer == "final":
            return ModelNotFound(self.run_id, selector, "the final model is published when the run succeeds")
        if parsed.pointer == "best":
            return ModelNotFound(self.run_id, selector, "no best model has been chosen yet")
        if parsed.pointer or not self.models():
            return ModelNotFound(self.run_id, selector or "latest", "no model is published yet")
        steps = ", ".join(str(published.timesteps) for published in self.models()[:10])
        return ModelNotFound(self.run_id, selector, f"it has models of the steps {steps}")

    def read_model(self, published: Published) -> Bundle:
        """Return the bytes of every file, each read once and compared with the manifest.

        Raises Damaged, ModelNotFound (the model was removed meanwhile), OSError.
        """
        try:
            return Bundle(published, read_files(published.path, published.manifest))
        except FileNotFoundError as error:
            raise ModelNotFound(self.run_id, published.digest, "it has been removed") from error
        except Damaged as error:
            if not published.path.exists():  # during a removal, files are missing
                raise ModelNotFound(self.run_id, published.digest, "it has been removed") from error
            raise

    def load_model(self, selector: str) -> Bundle:
        """Resolve ``selector`` and read that model; tries again if it was replaced and removed in between.

        Raises InvalidSelector, RunNotFound, ModelNotFound, Damaged, OSError.
        """
        for _ in range(_LOAD_ATTEMPTS - 1):
            before = self._pointer_bytes(selector)
            try:
                return self.read_model(self.model(selector))
            except (ModelNotFound, Damaged):
                if self._pointer_bytes(selector) == before:
                    raise
        return self.read_model(self.model(selector))

    def _pointer_bytes(self, selector: str) -> bytes | None:
        try:
            return read_regular(self.models_path / parse_selector(selector).pointer, LARGEST_POINTER, self.path)
        except (OSError, Damaged):
            return None

    def newest_checkpoint(
        self, on_damaged: Callable[[str, str], None] | None = None, key: CheckpointKey | None = None
    ) -> Published | None:
        """Return the newest checkpoint whose every byte is as published, or None. For the trainer: reads all of it.

        With a ``key``, one that the run with this key has not written counts as damaged.

        A damaged one is renamed to damaged-STEP-... with the reason in reason.txt, ``on_damaged`` is called with its
        name and the reason, and the next older one is tried. Raises OSError for an error that says nothing of a
        checkpoint, such as a missing permission, and if the disk fails and no intact checkpoint is left.
        """
        return newest_intact_checkpoint(self.checkpoints_path, on_damaged, key)
