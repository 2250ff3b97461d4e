"""The keys that runs sign their checkpoints with: a Secret for each run, derived from one of the installation.

No trainer can read a Secret; the kubelet gives it the key of its own run. A run's Secret is made once, before the run's
first Job with a key, and says whether an earlier Job had none: it outlives Jobs, operators and the Secret of the
installation. One that is lost is derived again. Must not know what a checkpoint is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from aisandbox_crds import API_VERSION, KIND, RUN_LABEL, InstallationSecret, parse_time
from aisandbox_kubernetes import Conflict, Forbidden, Json, NotFound

from aisandbox_operator.job_manifest import ACCEPT_UNSIGNED_ENTRY, KEY_ENTRY, OPERATOR, KeySource
from aisandbox_operator.observed_objects import ObservedRun

INSTALLATION = "aisandbox-checkpoint-secret"
"""The name of the Secret of the installation."""
_ENTRY = "secret"

log = structlog.get_logger(__name__)


class Secrets(Protocol):
    """The Secrets of the namespace. Both raise KubernetesError."""

    async def secret(self, name: str) -> Json | None:
        """The Secret of that name."""

    async def create_secret(self, manifest: Json) -> None:
        """Creates it. Raises Conflict if there is one of its name."""


@dataclass
class RunKeys:
    """Makes the Secrets when they are first needed."""

    secrets: Secrets
    now: Callable[[], datetime]
    _installation: InstallationSecret | None = None
    _has_warned: bool = False

    async def source(self, run: ObservedRun) -> KeySource:
        """Where the run's trainer gets its key, if there is one. Raises KubernetesError.

        Without the Secret of the installation that is a Secret of the run that was made before, or none. With it, a Job
        without a key would have progress that the next one refuses, so a Secret that is refused is an error.
        """
        # With the run's own uid: the Secret of the run that it was restored from may be about to be deleted.
        name = f"{run.name}-key-{hashlib.sha256(f'{run.uid} {run.files_uid}'.encode()).hexdigest()[:12]}"
        try:
            installation = await self._read_or_create()
        except (Forbidden, NotFound, ValueError) as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("checkpoints of new runs are not signed: no Secret can be used", error=str(error))
            return KeySource(name, may_be_missing=True)
        await self._create_if_missing(_run_secret(name, run, installation))
        return KeySource(name)

    async def _read_or_create(self) -> InstallationSecret:
        """Raises ValueError if the Secret is malformed."""
        if self._installation is None:
            found = await self.secrets.secret(INSTALLATION)
            if found is None:
                created = InstallationSecret.create(self.now())
                await self._create_if_missing(_secret(INSTALLATION, {_ENTRY: created.to_text()}))
                found = await self.secrets.secret(INSTALLATION)  # of two operators, the first has made it
            self._installation = InstallationSecret.from_text(_entry(found))
        return self._installation

    async def _create_if_missing(self, manifest: Json) -> None:
        try:
            await self.secrets.create_secret(manifest)
        except NotFound:
            raise
        except Conflict:
            return


def _may_have_unsigned(run: ObservedRun, installation: InstallationSecret) -> bool:
    """Whether a run without a Secret may have checkpoints without a digest: if it began without a key.

    Of a run that was restored from a backup, the Secret is lost in any case: it had one if it began after the
    installation's was made.
    """
    status = run.status  # of which the checkpoint is from the trainer itself, also while no operator runs
    if not status.attempt and status.start_time is None and status.latest_checkpoint is None:
        return False
    return run.files_uid == run.uid or not installation.is_older_than(parse_time(status.start_time))


def _run_secret(name: str, run: ObservedRun, installation: InstallationSecret) -> Json:
    accepts = "true" if _may_have_unsigned(run, installation) else "false"
    secret = _secret(name, {KEY_ENTRY: installation.key_of(run.files_uid), ACCEPT_UNSIGNED_ENTRY: accepts})
    secret["metadata"]["labels"][RUN_LABEL] = run.name
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": run.name, "uid": run.uid}
    secret["metadata"]["ownerReferences"] = [owner]
    return secret


def _secret(name: str, entries: dict[str, str]) -> Json:
    labels = {"app.kubernetes.io/part-of": "aisandbox", "app.kubernetes.io/managed-by": OPERATOR}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "immutable": True,
        "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in entries.items()},
    }


def _entry(secret: Json | None) -> str:
    try:
        return base64.b64decode(((secret or {}).get("data") or {})[_ENTRY], validate=True).decode()
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"the Secret {INSTALLATION} has no entry {_ENTRY!r}") from error
