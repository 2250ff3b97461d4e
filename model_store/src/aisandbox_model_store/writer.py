"""Publishing for one attempt of a run.

Owns the order of writes and the fence. Must not know what the files mean.

The fence is exact without locks. An attempt claims a run by (1) creating the file attempts/N, (2) renaming away every
temporary file and folder of older attempts. An attempt publishes by (a) writing a temporary sibling, (b) looking for a
newer claim, (c) renaming. If (b) saw no newer claim then (b) was before (1), so the temporary lay there at (2): either
it was renamed before that, hence before the claim returned, or (c) fails. After a claim nothing older is published.
An earlier run of the same name is kept out in the same way: its folder is renamed, then the new one gets its uid.
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

from aisandbox_model_store.atomic_file import (
    create_folder,
    discard,
    full_disk_named,
    removed_on_error,
    sync_file,
    sync_folder,
    write_durably,
)
from aisandbox_model_store.errors import Damaged, DiskFull, Fenced, InvalidArtifact
from aisandbox_model_store.layout import ATTEMPTS_FOLDER, MANIFEST_FILE, POINTERS
from aisandbox_model_store.manifest import describe_folder, digest_of, verify_folder
from aisandbox_model_store.ownership import check_owner, own
from aisandbox_model_store.run_folder import Published, RunFolder, artifact_order, next_name
from aisandbox_model_store.sealed import seal

_TEMPORARY = re.compile(r"\.tmp-([0-9]+)-[0-9a-f]+")
_GONE = ".gone-"


def claim(run: RunFolder, attempt: int | None, uid: str = "") -> Writer:
    """Take the run over for ``attempt``; see :meth:`RunFolder.claim`."""
    if attempt is not None and attempt < 0:
        raise ValueError(f"attempt: must not be negative, and is {attempt}")
    attempts = _attempts_path(run)
    with full_disk_named(run.path.parent):
        for root in run.roots if uid else ():
            own(root, uid)
        for folder in (attempts, run.models_path, run.checkpoints_path, run.logs_path):
            create_folder(folder)
        attempt = _next_attempt(attempts) if attempt is None else _given_attempt(attempts, attempt)
        sync_folder(attempts)
    writer = Writer(run, attempt, uid)
    writer.check_fence()
    _remove_leftovers(run, attempt)
    return writer


def _given_attempt(attempts: Path, attempt: int) -> int:
    if (newest := _newest_attempt(attempts)) > attempt:
        raise Fenced(attempt, newest)
    (attempts / str(attempt)).touch()
    return attempt


def _next_attempt(attempts: Path) -> int:
    """Claim the number after the newest one, which of several claims at once only one can get."""
    while True:
        attempt = max(_newest_attempt(attempts), 0) + 1
        with contextlib.suppress(FileExistsError):
            (attempts / str(attempt)).touch(exist_ok=False)
            return attempt


def _attempts_path(run: RunFolder) -> Path:
    return run.path / ATTEMPTS_FOLDER


def _newest_attempt(attempts: Path) -> int:
    try:
        return max((int(name) for name in os.listdir(attempts) if name.isdecimal()), default=-1)
    except FileNotFoundError:
        return -1


def _remove_leftovers(run: RunFolder, attempt: int) -> None:
    for parent in (run.models_path, run.checkpoints_path):
        for name in os.listdir(parent):
            match = _TEMPORARY.fullmatch(name)
            if name.startswith(_GONE):
                discard(parent / name)
            elif match and int(match.group(1)) <= attempt:
                _take_away(parent / name)


def _take_away(path: Path) -> None:
    """Make ``path`` disappear at once, then free its space: a reader or its owner sees all of it or nothing."""
    gone = path.with_name(f"{_GONE}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, gone)
        discard(gone)


@dataclass(frozen=True, slots=True)
class Writer:
    """Publishes for attempt ``attempt`` of ``run``.

    Every method raises Fenced once a newer attempt has claimed the run (Replaced once a newer run of its name has),
    DiskFull when there is no space, or OSError; then nothing half-written stays and what was published before is as it
    was.
    """

    run: RunFolder
    attempt: int
    uid: str = ""

    def check_fence(self) -> None:
        """Raise Fenced if a newer attempt has claimed the run, Replaced if a newer run has."""
        for root in self.run.roots:
            check_owner(root, self.uid)
        if (newest := _newest_attempt(_attempts_path(self.run))) > self.attempt:
            raise Fenced(self.attempt, newest)

    def publish_checkpoint(
        self, timesteps: int, write: Callable[[Path], None], details: Mapping[str, str] | None = None
    ) -> Published:
        """Publish the files that ``write(folder)`` puts into a new folder. Raises also InvalidArtifact, its errors."""
        parent = self.run.checkpoints_path
        with self._temporary(parent) as folder:
            folder.mkdir()
            write(folder)
            return self._publish(folder, "checkpoint", timesteps, details or {})

    def publish_model(
        self, timesteps: int, files: Mapping[str, bytes], details: Mapping[str, str] | None = None
    ) -> Published:
        """Publish the files of a model by their names. Raises also InvalidArtifact."""
        for name in files:
            if Path(name).name != name:
                raise InvalidArtifact(name, "must be a plain file name")
        with self._temporary(self.run.models_path) as folder:
            folder.mkdir()
            for name, data in files.items():
                (folder / name).write_bytes(data)
            return self._publish(folder, "model", timesteps, details or {})

    def _publish(self, folder: Path, kind: str, timesteps: int, details: Mapping[str, str]) -> Published:
        if not 0 <= timesteps < 10**18:
            raise InvalidArtifact(str(timesteps), "timesteps must be 0 to 10^18")
        manifest = describe_folder(folder, kind, timesteps, details)
        data = manifest.to_bytes()
        parent = folder.parent
        if (same := self._already_published(parent, timesteps, digest_of(data))) is not None:
            self.check_fence()
            return same
        for name in manifest.files:
            sync_file(folder / name)
        sync_folder(folder)
        write_durably(folder / MANIFEST_FILE, data)
        sync_folder(folder)
        place = parent / next_name(parent, timesteps)
        self._rename(folder, place)
        return Published(place, f"{parent.name}/{place.name}", timesteps, digest_of(data), manifest)

    def _already_published(self, parent: Path, timesteps: int, digest: str) -> Published | None:
        """Return the intact artefact with these very contents, which an attempt before this one may have published."""
        listed = self.run.models() if parent == self.run.models_path else self.run.checkpoints()
        for published in listed:
            if published.timesteps == timesteps and published.digest == digest:
                with contextlib.suppress(Damaged, OSError):
                    verify_folder(published.path, published.manifest)
                    return published
        return None

    def point(
        self, name: Literal["latest", "best", "final"], published: Published, reward_mean: float | None = None
    ) -> None:
        """Let the pointer ``name`` name a published model. ``reward_mean`` is the mean return it was chosen for."""
        if name not in POINTERS:
            raise ValueError(f"pointer: must be one of {', '.join(POINTERS)}, and is {name!r}")
        document = {
            "name": name,
            "folder": published.path.name,
            "timesteps": published.timesteps,
            "digest": published.digest,
            "reward_mean": reward_mean,
        }
        with self._temporary(self.run.models_path) as temporary:
            write_durably(temporary, seal(document))
            self._rename(temporary, self.run.models_path / name)

    def write_output(self, path: str, data: bytes | Path) -> Path:
        """Put ``data``, or a copy of that file, at ``path`` below MODELS_DIR; return the place. Raises OutsideRoot."""
        self.run.resolve_output(path)
        with self._temporary(self.run.models_path) as temporary:
            if isinstance(data, Path):
                shutil.copyfile(data, temporary)
                sync_file(temporary)
            else:
                write_durably(temporary, data)
            place = self.run.resolve_output(path)
            create_folder(place.parent)
            # Again: what was a folder at the first look may be a link now.
            self._rename(temporary, self.run.resolve_output(path))
            return place

    def retain_checkpoints(self, keep: int, newest: Published) -> list[str]:
        """Remove all but ``newest`` and the ``keep`` - 1 before it; return the removed, relative to the run's folder.

        What comes after ``newest`` by its name is neither counted nor removed: no attempt has gone on from it, so it is
        damaged, on a disk that does not even let it be set aside.
        """
        last = artifact_order(newest.path.name)
        known = [each for each in self.run.checkpoints() if artifact_order(each.path.name) <= last]
        return self._retain(known, keep, frozenset())

    def retain_models(self, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` models and those that a pointer names; return the removed ones."""
        pointers = [self.run.pointer(name) for name in POINTERS]
        return self._retain(self.run.models(), keep, frozenset(p.folder for p in pointers if p is not None))

    def _retain(self, newest_first: list[Published], keep: int, named: frozenset[str]) -> list[str]:
        if keep < 1:
            raise ValueError(f"keep: must be at least 1, and is {keep}")
        removed = []
        for published in newest_first[keep:]:
            if published.path.name not in named:
                self.check_fence()
                _take_away(published.path)
                removed.append(published.relative)
        return removed

    def _rename(self, temporary: Path, place: Path) -> None:
        """Check the fence, rename, and flush: the one way anything of a run becomes visible."""
        self.check_fence()
        try:
            os.replace(temporary, place)
        except FileNotFoundError:
            self.check_fence()  # a claim between the check and the rename has taken the temporary away
            raise
        sync_folder(place.parent)

    @contextlib.contextmanager
    def _temporary(self, parent: Path) -> Iterator[Path]:
        """Give a name in ``parent`` that a claim recognises as this attempt's; nothing stays there on an error."""
        temporary = parent / f".tmp-{self.attempt}-{secrets.token_hex(8)}"
        try:
            # In this order: once the temporary is removed, the disk may not look full any more.
            with removed_on_error(temporary), full_disk_named(parent):
                yield temporary
        except (OSError, DiskFull):
            self.check_fence()  # a claim takes the folder away under the pen of an older attempt
            raise
        discard(temporary)
