"""The secret of which the keys of this machine's runs are derived: a file beside the runs, for its owner only.

It is where the runs are, so that a MODELS_DIR that is moved to another machine goes on training there. Must not know
what the keys are for.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from aisandbox_crds import InstallationSecret
from aisandbox_model_store import RUNS_FOLDER, Damaged, DiskFull, RunStore, read_regular, write_atomically

from aisandbox_api.errors import SecretUnreadable

log = structlog.get_logger()

SECRET_NAME = ".checkpoint-secret"  # noqa: S105 - the name of the file
_LARGEST = 4096


def installation_secret(store: RunStore, now: datetime) -> InstallationSecret | None:
    """The secret of the folder, made if there is none; None if it cannot be written now. Blocking.

    Attempts without a secret have no key. Raises SecretUnreadable.
    """
    path = store.models_dir / RUNS_FOLDER / SECRET_NAME
    try:
        return InstallationSecret.from_text(read_regular(path, _LARGEST).decode())
    except FileNotFoundError:
        created = InstallationSecret.create(now)
        try:
            write_atomically(path, created.to_text().encode() + b"\n", is_private=True)
        except (DiskFull, OSError) as error:
            log.warning("checkpoints are not signed: no secret can be written", path=str(path), error=str(error))
            return None
        return created
    except (ValueError, Damaged, OSError) as error:
        raise SecretUnreadable(path, error) from error
