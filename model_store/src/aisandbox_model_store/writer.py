"""Publishing for one attempt of a run.

Owns the order of writes. Must not know what the files mean.

Fencing is exact without locks; the number of the attempt is the fencing token. An attempt claims a run by (1) creating
the file attempts/N, (2) renaming every temporary file and folder of older attempts. An attempt publishes by (a) writing
a temporary sibling, (b) checking for a newer claim, (c) renaming. If (b) saw no newer claim then (b) was before (1), so
the temporary existed at (2): either it was renamed by (c) before that, hence before the claim returned, or (c) fails.
After a claim nothing older is published. An earlier run of the same name is fenced in the same way: its folder is
renamed, then the new one gets its uid.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aisandbox_model_store.artifacts import Published, artifact_order, list_published, next_name
from aisandbox_model_store.atomic_file import (
    create_folder,
    discard,
    raise_disk_full,
    remove_on_error,
    sync_file,
    sync_folder,
    write_durably,
)
from aisandbox_model_store.attempts import check_newest, claim_attempt
from aisandbox_model_store.errors import Damaged, DiskFull, InvalidArtifact
from aisandbox_model_store.layout import ATTEMPTS_FOLDER, MANIFEST_FILE, OUTPUT_FILE, POINTERS
from aisandbox_model_store.manifest import describe_folder, digest_of, verify_folder
from aisandbox_model_store.ownership import check_owner, take_ownership
from aisandbox_model_store.run_folder import MODEL_DETAIL, RunFolder
from aisandbox_model_store.selection import Pointer, encode_pointer
from aisandbox_model_store.signatures import CheckpointKey, signed

_TEMPORARY = re.compile(r"\.tmp-([0-9]+)-[0-9a-f]+")
_REMOVED = ".gone-"


def claim(run: RunFolder, attempt: int | None, uid: str = "", key: CheckpointKey | None = None) -> Writer:
    """Claim ``run`` for ``attempt``; see :meth:`RunFolder.claim`."""
    if attempt is not None and attempt < 0:
        raise ValueError(f"attempt: must not be negative, got {attempt}")
    attempts = run.path / ATTEMPTS_FOLDER
    with raise_disk_full(run.path.parent):
        for root in run.roots if uid else ():
            take_ownership(root, uid)
        for folder in (attempts, run.models_path, run.weights_path, run.checkpoints_path, run.logs_path):
            create_folder(folder)
        attempt = claim_attempt(attempts, attempt)
        sync_folder(attempts)
    writer = Writer(run, attempt, uid, key)
    writer.check_fencing_token()
    _remove_leftovers(run, attempt)
    return writer


def _remove_leftovers(run: RunFolder, attempt: int) -> None:
    for parent in (run.models_path, run.weights_path, run.checkpoints_path):
        for name in os.listdir(parent):
            match = _TEMPORARY.fullmatch(name)
            if name.startswith(_REMOVED):
                discard(parent / name)
            elif match and int(match.group(1)) <= attempt:
                _remove_atomically(parent / name)


def _remove_atomically(path: Path) -> None:
    """Rename ``path``, then free its space: a reader or the attempt that writes it sees all of it or nothing."""
    removed = path.with_name(f"{_REMOVED}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, removed)
        discard(removed)


def _write_data(path: Path, data: bytes | Path) -> None:
    if isinstance(data, Path):
        shutil.copyfile(data, path)
        sync_file(path)
    else:
        write_durably(path, data)


@dataclass(frozen=True, slots=True)
class Writer:
    """Publishes for attempt ``attempt`` of ``run``. ``key``: what checkpoints are signed with; None: nothing.

    Every method raises Fenced once a newer attempt has claimed the run (RunReplaced once a newer run of its name has),
    DiskFull when there is no space, or OSError; then nothing half-written stays and what was published before is
    unchanged.
    """

    run: RunFolder
    attempt: int
    uid: str = ""
    key: CheckpointKey | None = None

    def check_fencing_token(self) -> None:
        """Raise Fenced if a newer attempt has claimed the run, RunReplaced if a newer run has."""
        for root in self.run.roots:
            check_owner(root, self.uid)
        check_newest(self.run.path / ATTEMPTS_FOLDER, self.attempt)

    def publish_checkpoint(
        self, timesteps: int, write: Callable[[Path], None], details: Mapping[str, str] | None = None
    ) -> Published:
        """Publish the files that ``write(folder)`` creates in a new folder. Raises also InvalidArtifact."""
        parent = self.run.checkpoints_path
        with self._temporary(parent) as folder:
            folder.mkdir()
            write(folder)
            return self._publish(folder, "checkpoint", timesteps, details or {})

    def publish_model(
        self, timesteps: int, files: Mapping[str, bytes], details: Mapping[str, str] | None = None
    ) -> Published:
        """Publish a model with these contents by file name. Raises also InvalidArtifact."""
        return self._publish_files(self.run.models_path, "model", timesteps, files, details or {})

    def publish_weights(self, model: Published, files: Mapping[str, bytes]) -> Published:
        """Publish the weights of a published model, with these contents by file name. Raises also InvalidArtifact."""
        details = {MODEL_DETAIL: model.digest}
        return self._publish_files(self.run.weights_path, "weights", model.timesteps, files, details)

    def record_source(self, data: bytes) -> None:
        """Write what the run starts from."""
        self._record(self.run.source_path, data)

    def record_demonstrations(self, data: bytes) -> None:
        """Write which demonstrations the run learns from."""
        self._record(self.run.demonstrations_path, data)

    def _record(self, path: Path, data: bytes) -> None:
        with self._temporary(self.run.weights_path) as temporary:
            write_durably(temporary, data)
            self._rename(temporary, path)

    def _publish_files(
        self, parent: Path, kind: str, timesteps: int, files: Mapping[str, bytes], details: Mapping[str, str]
    ) -> Published:
        for name in files:
            if Path(name).name != name:
                raise InvalidArtifact(name, "must be a plain file name")
        with self._temporary(parent) as folder:
            folder.mkdir()
            for name, data in files.items():
                (folder / name).write_bytes(data)
            return self._publish(folder, kind, timesteps, details)

    def _publish(self, folder: Path, kind: str, timesteps: int, details: Mapping[str, str]) -> Published:
        if not 0 <= timesteps < 10**18:
            raise InvalidArtifact(str(timesteps), "timesteps must be 0 to 10^18")
        manifest = describe_folder(folder, kind, timesteps, details)
        if self.key is not None and kind == "checkpoint":
            manifest = signed(manifest, self.key)
        data = manifest.to_bytes()
        parent = folder.parent
        if (same := self._already_published(parent, timesteps, digest_of(data))) is not None:
            self.check_fencing_token()
            return same
        for name in manifest.files:
            sync_file(folder / name)
        sync_folder(folder)
        write_durably(folder / MANIFEST_FILE, data)
        sync_folder(folder)
        path = parent / next_name(parent, timesteps)
        self._rename(folder, path)
        return Published(path, f"{parent.name}/{path.name}", timesteps, digest_of(data), manifest)

    def _already_published(self, parent: Path, timesteps: int, digest: str) -> Published | None:
        """Return an intact artifact with the same contents, which an earlier attempt may have published."""
        for published in list_published(parent):
            if published.timesteps == timesteps and published.digest == digest:
                with contextlib.suppress(Damaged, OSError):
                    verify_folder(published.path, published.manifest)
                    return published
        return None

    def point(
        self, name: Literal["latest", "best", "final"], published: Published, reward_mean: float | None = None
    ) -> None:
        """Point ``name`` to a published model. ``reward_mean`` is the mean return for which it was chosen."""
        if name not in POINTERS:
            raise ValueError(f"pointer: must be one of {', '.join(POINTERS)}, got {name!r}")
        pointer = Pointer(published.path.name, published.timesteps, published.digest, reward_mean)
        with self._temporary(self.run.models_path) as temporary:
            write_durably(temporary, encode_pointer(name, pointer))
            self._rename(temporary, self.run.models_path / name)

    def prepare_output(self, data: bytes | Path) -> None:
        """Write ``data``, or a copy of that file, into the run's folder, for :func:`.outputs.publish_output`."""
        with self._temporary(self.run.models_path) as temporary:
            _write_data(temporary, data)
            self._rename(temporary, self.run.path / OUTPUT_FILE)

    def write_output(self, path: str, data: bytes | Path) -> Path:
        """Write ``data``, or a copy of that file, to ``path`` below MODELS_DIR; return its path. Raises OutsideRoot."""
        self.run.resolve_output(path)
        with self._temporary(self.run.models_path) as temporary:
            _write_data(temporary, data)
            resolved = self.run.resolve_output(path)
            create_folder(resolved.parent)
            # Resolved again: what was a folder before may be a link now.
            self._rename(temporary, self.run.resolve_output(path))
            return resolved

    def retain_checkpoints(self, keep: int, newest: Published) -> list[str]:
        """Remove all but ``newest`` and the ``keep`` - 1 before it; return the removed, relative to the run's folder.

        Checkpoints whose names come after ``newest`` are neither counted nor removed: no attempt has resumed from them,
        so they are damaged, on a disk that does not allow to rename them.
        """
        last = artifact_order(newest.path.name)
        checkpoints = [each for each in self.run.checkpoints() if artifact_order(each.path.name) <= last]
        return self._retain(checkpoints, keep, frozenset())

    def retain_models(self, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` models and those with a pointer; return the removed, as above.

        Weights go with their model.
        """
        pointers = [self.run.pointer(name) for name in POINTERS]
        removed = self._retain(self.run.models(), keep, frozenset(p.folder for p in pointers if p is not None))
        kept = {published.digest for published in self.run.models()}
        weights = list_published(self.run.weights_path)
        old = [each for each in weights if each.manifest.details.get(MODEL_DETAIL) not in kept]
        return removed + self._remove(old)

    def _retain(self, newest_first: list[Published], keep: int, protected: frozenset[str]) -> list[str]:
        if keep < 1:
            raise ValueError(f"keep: must be at least 1, got {keep}")
        return self._remove([each for each in newest_first[keep:] if each.path.name not in protected])

    def _remove(self, artifacts: list[Published]) -> list[str]:
        for published in artifacts:
            self.check_fencing_token()
            _remove_atomically(published.path)
        return [published.relative for published in artifacts]

    def _rename(self, temporary: Path, path: Path) -> None:
        """Check the fencing token, rename, and flush: the only way in which a file of a run becomes visible."""
        self.check_fencing_token()
        try:
            os.replace(temporary, path)
        except FileNotFoundError:
            self.check_fencing_token()  # a claim between the check and the rename has renamed the temporary
            raise
        sync_folder(path.parent)

    @contextlib.contextmanager
    def _temporary(self, parent: Path) -> Iterator[Path]:
        """Yield a path in ``parent`` whose name has this attempt's number; nothing stays there on an error."""
        temporary = parent / f".tmp-{self.attempt}-{secrets.token_hex(8)}"
        try:
            # In this order: once the temporary is removed, the disk may no longer be full.
            with remove_on_error(temporary), raise_disk_full(parent):
                yield temporary
        except (OSError, DiskFull):
            self.check_fencing_token()  # a newer attempt renames the folder while an older one writes it
            raise
        discard(temporary)
