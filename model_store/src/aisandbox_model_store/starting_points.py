"""What a run can start from: a model or checkpoint of another run, or a file of users.

The one place that knows where it is below MODELS_DIR and CHECKPOINT_DIR, for the service that accepts the run and for
the trainer that reads it. Must not write, nor know what is in the files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aisandbox_model_store.artifacts import Published
from aisandbox_model_store.errors import OtherDigest
from aisandbox_model_store.layout import RUNS_FOLDER
from aisandbox_model_store.manifest import check_names, entry_of_open
from aisandbox_model_store.regular_file import open_regular
from aisandbox_model_store.run_folder import RunFolder
from aisandbox_model_store.run_store import RunStore

LEARNER_FILE = "learner.json"
"""Beside weights, and in a checkpoint: algorithm, policy, observation_space, action_space (in protobuf's JSON)."""
LARGEST_LEARNER = 16 * 1024 * 1024
"""Bytes of it that a reader takes."""


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What was found: ``relative`` is to the volume, ``digest`` the identity of the artifact or of the file's bytes.

    ``run`` and ``published`` are None for a file of users.
    """

    name: str
    path: Path
    relative: str
    timesteps: int
    digest: str
    run: RunFolder | None = None
    published: Published | None = None

    @property
    def learner_path(self) -> Path | None:
        """Its LEARNER_FILE, which those of earlier versions lack; None for a file of users.

        Raises ModelNotFound, Damaged.
        """
        if self.run is None or self.published is None:
            return None
        is_model = self.published.manifest.kind != "checkpoint"
        return (self.run.weights_of(self.published) if is_model else self.published).path / LEARNER_FILE


def find_published(store: RunStore, run_id: str, model: str, checkpoint: str, digest: str = "") -> StartingPoint:
    """Return a model or checkpoint of a run by its selector, or by its digest.

    Without either selector it is the model final if the run has one, else latest. Their files are not read, and are
    there with their sizes. Raises InvalidRunId, InvalidSelector, RunNotFound, ModelNotFound, CheckpointNotFound,
    Damaged, OSError.
    """
    run = store.run(run_id)
    if checkpoint:
        published = run.checkpoint(digest or checkpoint)
    else:
        published = run.model(digest or model or ("final" if run.pointer("final") is not None else "latest"))
        check(run.weights_of(published))
    check(published)
    name = f"the {published.manifest.kind} {published.relative} of the run {run_id!r}"
    relative = f"{RUNS_FOLDER}/{run_id}/{published.relative}"
    return StartingPoint(name, published.path, relative, published.timesteps, published.digest, run, published)


def open_file(
    store: RunStore,
    path: str,
    digest: str = "",
    *,
    largest: int | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[StartingPoint, BinaryIO]:
    """Return a file of users below MODELS_DIR, opened: what is read is what the digest is of.

    The digest of a file of more than ``largest`` bytes is not computed: it is the one that is asked for. ``check`` is
    called while a file is read, and may raise. Raises OutsideRoot, FileNotFoundError, OtherDigest, Damaged (it is no
    regular file), OSError.
    """
    resolved = store.resolve_output(path)
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(open_regular(resolved))
        if largest is None or os.fstat(file.fileno()).st_size <= largest:
            found = digest_of(file, check)
            if digest not in ("", found):
                raise OtherDigest(path, found, digest)
            digest = found
        opened.pop_all()
    return StartingPoint(f"the file {path!r}", resolved, path, 0, digest), file


def digest_of(file: BinaryIO, check: Callable[[], None] | None = None) -> str:
    """Return the digest of all bytes of an open file, which is at its beginning then; ``check`` as of open_file."""
    file.seek(0)
    found = f"sha256:{entry_of_open(file, check).sha256}"
    file.seek(0)
    return found


def check(published: Published) -> None:
    """Raise Damaged if a file is missing or has another size."""
    check_names(published.path, published.manifest)
