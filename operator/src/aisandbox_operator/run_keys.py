"""The keys that runs sign their checkpoints with: a Secret for each run, derived from one of the installation.

No trainer can read a Secret; the kubelet gives it the key of its own run. A run's Secret that is lost is derived again;
without that of the installation, unfinished runs cannot read their checkpoints. Must not know what a checkpoint is.
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

from aisandbox_operator.job_manifest import KEY_ENTRY, OPERATOR, KeySource
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

    async def source(self, run: ObservedRun) -> KeySource | None:
        """Where the run's trainer gets its key; None if the operator may not use Secrets. Raises KubernetesError."""
        try:
            installation = await self._read_or_create()
            # With the run's own uid: the Secret of the run that it was restored from may be about to be deleted.
            name = f"{run.name}-key-{hashlib.sha256(f'{run.uid} {run.files_uid}'.encode()).hexdigest()[:12]}"
            await self._create_if_missing(_run_secret(name, run, installation.key_of(run.files_uid)))
        except (Forbidden, NotFound, ValueError) as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("checkpoints are not signed: the operator cannot use Secrets", error=str(error))
            return None
        return KeySource(name, accepts_unsigned=not installation.is_older_than(_began(run)))

    async def _read_or_create(self) -> InstallationSecret:
        """Raises ValueError if the Secret has another form."""
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


def _began(run: ObservedRun) -> datetime | None:
    """A run that was restored from a backup was created later than it has begun."""
    times = [time for time in (run.created, parse_time(run.status.start_time)) if time is not None]
    return min(times, default=None)


def _run_secret(name: str, run: ObservedRun, key: str) -> Json:
    secret = _secret(name, {KEY_ENTRY: key})
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
