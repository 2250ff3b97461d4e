"""The artifacts that a run has published, read from its folder.

The folder is authoritative: a trainer's last report may have been lost. Must not know how artifacts are reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
from aisandbox_crds import Artifact, TrainingRunStatus
from aisandbox_model_store import ModelStoreError, RunFolder

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The newest checkpoint, and what the pointers latest and best name."""

    latest_checkpoint: Artifact | None
    latest_model: Artifact | None
    best_model: Artifact | None

    def recorded_in(self, status: TrainingRunStatus) -> TrainingRunStatus:
        """The status with these artifacts."""
        return replace(
            status,
            latest_checkpoint=self.latest_checkpoint,
            latest_model=self.latest_model,
            best_model=self.best_model,
        )


def read_artifacts(folder: RunFolder) -> Artifacts:
    """Reads manifests and pointers, not the files. Blocking. Raises OSError."""
    newest = next(iter(folder.checkpoints()), None)
    checkpoint = Artifact(newest.relative, newest.timesteps, newest.digest) if newest is not None else None
    return Artifacts(checkpoint, _pointed(folder, "latest"), _pointed(folder, "best"))


def _pointed(folder: RunFolder, name: str) -> Artifact | None:
    try:
        pointer = folder.pointer(name)
    except ModelStoreError as error:
        log.warning("pointer to a model is damaged", run=folder.run_id, pointer=name, why=str(error))
        return None
    if pointer is None:
        return None
    return Artifact(f"models/{pointer.folder}", pointer.timesteps, pointer.digest, pointer.reward_mean)
