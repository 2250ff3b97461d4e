"""kopf's watches of runs, Jobs and pods: they only put names of runs into the queue.

Owns how kopf is set up: no finalizers, annotations, timers, daemons, indexes or peering, so that a run can be deleted
while no operator is running, and everything the operator knows follows from the cluster alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import kopf
from aisandbox_crds import GROUP, RUN_LABEL, VERSION
from aisandbox_kubernetes import Configuration

from aisandbox_operator.job_manifest import OPERATOR
from aisandbox_operator.pod_decoding import read_pod
from aisandbox_operator.watch_cache import WatchCache
from aisandbox_operator.work_queue import WorkQueue

WATCH_SECONDS = 35
"""After so long the API server ends a watch, which is continued from where it was."""
INACTIVITY_SECONDS = 40.0
"""A watch that delivers nothing for longer has lost its connection and is restarted."""

_LONGEST_RETRY = 20.0


class Watches:
    """The registry and settings of kopf for one operator.

    ``relisted`` is called when a watch starts from a list, at first or because its version was too old (410): no event
    is delivered for what happened before, deletions above all.
    """

    def __init__(
        self,
        configuration: Configuration,
        queue: WorkQueue,
        watch_cache: WatchCache,
        relisted: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._queue = queue
        self._watch_cache = watch_cache
        self._relisted = relisted
        self._fingerprints: dict[str, object] = {}
        self.registry = kopf.OperatorRegistry()
        self.settings = _kopf_settings()
        kopf.on.login(registry=self.registry, errors=kopf.ErrorsMode.TEMPORARY, backoff=5)(self._log_in)
        kopf.on.event(GROUP, VERSION, "trainingruns", registry=self.registry)(self._on_run)
        kopf.on.event("batch", "v1", "jobs", registry=self.registry)(self._on_job)
        kopf.on.event("", "v1", "pods", registry=self.registry)(self._on_pod)

    async def _log_in(self, **_: Any) -> kopf.ConnectionInfo:
        return await _kopf_connection(self._configuration)

    async def _on_run(self, event: kopf.RawEvent, **_: Any) -> None:
        raw, kind = cast(Mapping[str, Any], event["object"]), event["type"]
        name = raw["metadata"]["name"]
        self._watch_cache.record_event("trainingruns", raw, is_deleted=kind == "DELETED")
        if kind == "DELETED":
            self._fingerprints.pop(name, None)
            self._queue.add(name)  # like any other event: a new run may have the name already
            return
        before, after = self._fingerprints.get(name), _fingerprint(raw)
        self._fingerprints[name] = after
        if kind is None:
            self._relisted()
        elif after != before:
            self._queue.add(name)

    async def _on_job(self, event: kopf.RawEvent, **_: Any) -> None:
        self._watch_cache.record_event("jobs", event["object"], is_deleted=event["type"] == "DELETED")
        self._add_owner(event)

    async def _on_pod(self, event: kopf.RawEvent, **_: Any) -> None:
        raw = event["object"]
        self._watch_cache.record_event("pods", raw, is_deleted=event["type"] == "DELETED")
        self._watch_cache.record_termination(read_pod(raw))
        self._add_owner(event)

    def _add_owner(self, event: kopf.RawEvent) -> None:
        labels = event["object"]["metadata"].get("labels") or {}
        name = labels.get(RUN_LABEL)
        if event["type"] is None:
            self._relisted()
        elif name:
            self._queue.add(name)


def _fingerprint(raw: Mapping[str, Any]) -> object:
    """The fields of a run that can change its plan; reports of progress come every few seconds and mostly cannot."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    progress = status.get("progress") or {}
    conditions = status.get("conditions") or []
    stalled = any(each.get("type") == "ProgressStalled" and each.get("status") == "True" for each in conditions)
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        progress.get("attempt"),
        progress.get("lastUpdatedTime") if stalled else None,
    )


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # namespaced: no permission to watch namespaces and definitions
    settings.peering.standalone = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.watching.connect_timeout = 10.0
    settings.networking.request_timeout = 30.0
    settings.networking.error_backoffs = _Backoffs()
    settings.process.ultimate_exiting_timeout = 30.0
    settings.persistence.finalizer = f"{GROUP}/{OPERATOR}"  # never used: no handler needs one
    settings.watching.label_selectors["batch", "v1", "jobs"] = RUN_LABEL
    settings.watching.label_selectors["", "v1", "pods"] = RUN_LABEL
    return settings


async def _kopf_connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """The same server and user for kopf; called again whenever kopf's credentials have become invalid."""
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data if not configuration.ssl_ca_cert else None,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        token=header.split(" ", 1)[-1] or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


class _Backoffs:
    """1, 2, 4, ... up to 20 seconds between the tries of a call, for as long as an outage lasts."""

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield delay
            delay = min(2 * delay, _LONGEST_RETRY)
