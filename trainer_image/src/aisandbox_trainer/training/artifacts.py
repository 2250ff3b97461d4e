"""What a run has published, as its status names it.

Owns the way from a published folder or a pointer to an Artifact. Must not know when or why it was published.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import structlog
from aisandbox_crds import Artifact, format_time
from aisandbox_model_store import MANIFEST_FILE, Damaged, ModelNotFound, Pointer, Published, RunFolder

log = structlog.get_logger(__name__)


def artifact_of(published: Published, reward_mean: float | None = None) -> Artifact:
    """A published folder; ``reward_mean`` is the reason why it was chosen."""
    return Artifact(
        path=published.relative,
        timesteps=published.timesteps,
        digest=published.digest,
        reward_mean=reward_mean,
        time=_published_at(published.path),
    )


def artifact_of_pointer(run: RunFolder, pointer: Pointer) -> Artifact:
    """The model that a pointer names."""
    return Artifact(
        path=f"models/{pointer.folder}",
        timesteps=pointer.timesteps,
        digest=pointer.digest,
        reward_mean=pointer.reward_mean,
        time=_published_at(run.models_path / pointer.folder),
    )


def usable_pointer(run: RunFolder, name: str) -> Pointer | None:
    """The pointer ``name`` ("latest", "best", "final") if the model it names exists and is not damaged."""
    try:
        pointer = run.pointer(name)
        if pointer is not None:
            run.model(name)
    except (Damaged, ModelNotFound) as error:
        log.warning("pointer to a model is not usable", pointer=name, error=str(error))
        return None
    return pointer


def _published_at(folder: Path) -> str | None:
    """When the manifest was written, RFC 3339 in UTC; for people only, since a copy of the files has another time."""
    try:
        written = (folder / MANIFEST_FILE).stat().st_mtime
    except OSError:
        return None
    return format_time(datetime.fromtimestamp(written, UTC))
