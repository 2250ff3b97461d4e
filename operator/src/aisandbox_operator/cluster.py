"""The calls of the API server the operator makes, with what each may raise.

Owns paths, verbs, content types and the meaning of HTTP statuses. Every write can be repeated: its answer may have been
lost. Must not decide anything. Objects are passed as JSON values; :mod:`aisandbox_operator.decoding` reads them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aisandbox_crds.trainingrun import API_VERSION, GROUP, KIND, RUN_LABEL, VERSION
from kubernetes.aio.client import ApiClient, Configuration

from aisandbox_operator.announcements import Announcement
from aisandbox_operator.errors import ClusterError, Conflict, Forbidden, Invalid, Refused, Unavailable
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.names import FIELD_MANAGER
from aisandbox_operator.views import RunView

Json = dict[str, Any]

TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
PAGE = 500
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"  # keeps the other conditions


class Cluster:
    """One namespace, seen through the official client. For one event loop; :meth:`close` it."""

    def __init__(self, configuration: Configuration, namespace: str, instance: str, metrics: Metrics) -> None:
        self._api: Any = ApiClient(configuration)
        self._api.user_agent = FIELD_MANAGER
        self._namespace = namespace
        self._instance = instance
        self._metrics = metrics
        self._runs = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/trainingruns"
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"

    async def close(self) -> None:
        """Ends the connections."""
        await self._api.close()

    async def run(self, name: str) -> Json | None:
        """The TrainingRun as it is now. Raises ClusterError."""
        return await self._get(f"{self._runs}/{name}")

    async def job(self, name: str) -> Json | None:
        """The Job of that name as it is now. Raises ClusterError."""
        return await self._get(f"{self._jobs}/{name}")

    async def pods(self, run: str) -> list[Json]:
        """The pods labelled with the run. Raises ClusterError."""
        return [pod async for pod in self._list(self._pods, f"{RUN_LABEL}={run}")]

    async def all_runs(self) -> list[Json]:
        """Every TrainingRun. Raises ClusterError."""
        return [run async for run in self._list(self._runs)]

    async def all_jobs(self) -> list[Json]:
        """Every Job labelled with a run. Raises ClusterError."""
        return [job async for job in self._list(self._jobs, RUN_LABEL)]

    async def all_pods(self) -> list[Json]:
        """Every pod labelled with a run. Raises ClusterError."""
        return [pod async for pod in self._list(self._pods, RUN_LABEL)]

    async def create_job(self, manifest: Json) -> None:
        """Makes the Job by server-side apply; done twice it is made once.

        Not forced: a Job of that name that came into being meanwhile is a Conflict. Raises ClusterError, Invalid.
        """
        path = f"{self._jobs}/{manifest['metadata']['name']}"
        query = {"fieldManager": FIELD_MANAGER, "force": "false", "fieldValidation": "Strict"}
        await self._call("PATCH", path, query, manifest, _APPLY)

    async def suspend_job(self, name: str, uid: str, suspended: bool) -> None:
        """Sets ``spec.suspend`` of the Job with that uid; another uid is a Conflict. Raises ClusterError."""
        body = {"metadata": {"uid": uid}, "spec": {"suspend": suspended}}
        await self._call("PATCH", f"{self._jobs}/{name}", {"fieldManager": FIELD_MANAGER}, body, _MERGE)

    async def delete_job(self, name: str, uid: str) -> None:
        """Deletes the Job with that uid, after its pods; one that is gone is deleted. Raises ClusterError."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Foreground"}
        await self._call("DELETE", f"{self._jobs}/{name}", {}, body, "application/json", missing_is_fine=True)

    async def mark_disrupted(self, pod: str, uid: str, time: str) -> None:
        """Sets the condition by which Jobs tell disruptions from failures, as the eviction API does.

        https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions. Raises ClusterError.
        """
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByUser",
            "message": "the pod was deleted while its trainer was at work",
            "lastTransitionTime": time,
        }
        body = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        await self._call("PATCH", f"{self._pods}/{pod}/status", {"fieldManager": FIELD_MANAGER}, body, _STRATEGIC)

    async def apply_status(self, run: RunView, fields: Mapping[str, Any]) -> Json:
        """Writes the operator's part of the status of the run as it was read; returns the run as it is after.

        A run that has changed since is a Conflict: what was decided about it may be wrong by now, and above all it may
        have come to its end. Raises ClusterError.
        """
        metadata = {"name": run.name, "uid": run.uid, "resourceVersion": run.resource_version}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": dict(fields)}
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call("PATCH", f"{self._runs}/{run.name}/status", query, body, _APPLY)

    async def announce(self, run: RunView, told: Announcement, time: str) -> None:
        """Makes an event about the run, unless it was made before. Raises ClusterError."""
        reference = {"apiVersion": API_VERSION, "kind": KIND, "name": run.name, "namespace": self._namespace}
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": told.name, "namespace": self._namespace},
            "eventTime": time,
            "reportingController": f"{GROUP}/{FIELD_MANAGER}",
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "reason": told.reason[:128],
            "note": told.note,
            "type": "Warning" if told.is_warning else "Normal",
            "regarding": {**reference, "uid": run.uid},
        }
        try:
            await self._call("POST", self._events, {}, body, "application/json")
        except Conflict:
            return

    async def _get(self, path: str) -> Json | None:
        return await self._call("GET", path, {}, missing_is_fine=True) or None

    async def _list(self, path: str, selector: str = "") -> AsyncIterator[Json]:
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self._call("GET", path, query, verb="list")
            for item in page.get("items") or []:
                yield item
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return
            query["continue"] = more

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | None = None,
        content_type: str = "",
        *,
        verb: str = "",
        missing_is_fine: bool = False,
    ) -> Json:
        verb = verb or ("apply" if content_type == _APPLY else method.lower())
        call = f"{verb} {path.removeprefix('/apis/').removeprefix('/api/')}"
        headers = {"Accept": "application/json", **({"Content-Type": content_type} if content_type else {})}
        try:
            request = await self._api.param_serialize(
                method, path, {}, list(query.items()), headers, body, auth_settings=["BearerToken"]
            )
            response = await self._api.call_api(*request, _request_timeout=TIMEOUT)
            text = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._metrics.observe_request(verb, "none")
            raise Unavailable(call, f"no answer: {str(error) or type(error).__name__}") from error
        self._metrics.observe_request(verb, str(response.status))
        if response.status == 404 and missing_is_fine:
            return {}
        if not 200 <= response.status < 300:
            raise _error(call, response.status, _json(text), response.headers.get("Retry-After"))
        return _json(text)


def _json(text: bytes) -> Json:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _error(call: str, status: int, body: Json, retry_after: str | None) -> ClusterError:
    """What a status means for whoever made the call (Kubernetes API conventions, "HTTP Status codes")."""
    message = f"{status}: {body.get('message') or body.get('reason') or 'no message'}"
    if status == 404 or status == 409 or (status == 422 and "immutable" in message):
        return Conflict(call, message)
    if status in (401, 408, 410, 429) or status >= 500:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
        return Unavailable(call, message, seconds)
    if status == 403:
        return Forbidden(call, message)
    if status in (400, 422):
        return Invalid(call, message)
    return Refused(call, message)
