"""How an attempt claims its run's folder: nobody else publishes there from then on.

Must not know what an attempt does.
"""

from __future__ import annotations

import time

import structlog
from aisandbox_crds import TrainerStart
from aisandbox_model_store import CheckpointKey, RunStore, Writer

from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop

log = structlog.get_logger(__name__)

CLAIM_PAUSE_SECONDS = 1.0


def claim(start: TrainerStart, stop: Stop, settings: Settings) -> Writer:
    """Claims the run's folder for the attempt. Raises StopRequested, and what :meth:`RunFolder.claim` raises.

    What an earlier run of this name has published is not set aside at once: if this run is being restored from a
    backup, its trainer is stopped, or started again with the uid of those files, when the run has its status.
    """
    run = RunStore(start.models_dir, start.checkpoint_dir).run(start.run_id)
    if start.run_uid and (earlier := run.earlier_owner(start.run_uid)):
        log.warning(
            "an earlier run of this name has files here, which are set aside unless the run is being restored",
            earlier_uid=earlier,
            wait_seconds=settings.earlier_run_patience,
        )
        end = time.monotonic() + settings.earlier_run_patience
        while run.earlier_owner(start.run_uid) and (left := end - time.monotonic()) > 0:
            stop.sleep(min(left, CLAIM_PAUSE_SECONDS))
    return run.claim(start.attempt, start.run_uid, _checkpoint_key(start))


def _checkpoint_key(start: TrainerStart) -> CheckpointKey | None:
    key = start.checkpoint_key
    return None if key is None else CheckpointKey(bytes.fromhex(key), start.accept_unsigned_checkpoints)
