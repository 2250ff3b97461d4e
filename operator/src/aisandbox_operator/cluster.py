"""The calls of the API server the operator makes: which paths, and with what preconditions.

Every write can be repeated: its answer may have been lost. Must not decide anything. Objects are passed as JSON values;
:mod:`aisandbox_operator.decoding` reads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from aisandbox_crds import API_VERSION, GROUP, KIND, RUN_LABEL, VERSION
from aisandbox_kubernetes import Client, Conflict, Json, NotFound

from aisandbox_operator.events import Event
from aisandbox_operator.job_manifest import OPERATOR
from aisandbox_operator.observed_objects import ObservedRun

EXITED_ANNOTATION = f"{GROUP}/trainer-exited"
"""On a pod whose other containers the operator has had stopped."""


class Cluster:
    """One namespace. ``instance`` names this process in events. All methods raise KubernetesError."""

    def __init__(self, client: Client, namespace: str, instance: str) -> None:
        self._client = client
        self._namespace = namespace
        self._instance = instance
        self._runs = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/trainingruns"
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"

    async def run(self, name: str) -> Json | None:
        """The TrainingRun as it is now."""
        return await self._get(f"{self._runs}/{name}")

    async def job(self, name: str) -> Json | None:
        """The Job of that name as it is now."""
        return await self._get(f"{self._jobs}/{name}")

    async def pods(self, run: str) -> list[Json]:
        """The pods labelled with the run."""
        return await self._list(self._pods, f"{RUN_LABEL}={run}")

    async def refused_pods(self, job_uid: str) -> list[Json]:
        """The events about pods of the Job that could not be created."""
        return await self._list(self._events, field_selector=f"regarding.uid={job_uid},reason=FailedCreate")

    async def all_runs(self) -> list[Json]:
        """Every TrainingRun."""
        return await self._list(self._runs)

    async def all_jobs(self) -> list[Json]:
        """Every Job labelled with a run."""
        return await self._list(self._jobs, RUN_LABEL)

    async def all_pods(self) -> list[Json]:
        """Every pod labelled with a run."""
        return await self._list(self._pods, RUN_LABEL)

    async def create_job(self, manifest: Json) -> None:
        """Creates the Job by server-side apply; a second time changes nothing.

        Not forced: a Job of that name that another client has created meanwhile is a Conflict.
        """
        path = f"{self._jobs}/{manifest['metadata']['name']}"
        await self._client.apply(path, manifest, force=False, is_strict=True)

    async def suspend_job(self, name: str, uid: str, suspended: bool, annotations: Mapping[str, str]) -> None:
        """Sets ``spec.suspend`` and annotations of the Job with that uid; another uid is a Conflict."""
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}, "spec": {"suspend": suspended}}
        await self._client.merge_patch(f"{self._jobs}/{name}", body)

    async def delete_job(self, name: str, uid: str) -> None:
        """Deletes the Job with that uid, after its pods; one that does not exist is deleted."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Foreground"}
        with contextlib.suppress(NotFound):
            await self._client.delete(f"{self._jobs}/{name}", body)

    async def mark_disrupted(self, pod: str, uid: str, time: str) -> None:
        """Sets the condition by which Jobs tell disruptions from failures, as the eviction API does.

        https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions.
        """
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByUser",
            "message": "the pod was deleted while its trainer was running",
            "lastTransitionTime": time,
        }
        body = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        # a strategic merge keeps the other conditions
        await self._client.strategic_merge_patch(f"{self._pods}/{pod}/status", body)

    async def end_pod(self, pod: str, uid: str, phase: str) -> None:
        """Sets the last phase of the pod with that uid: its kubelet then stops the containers that still run.

        A kubelet stops a pod whose phase is Succeeded or Failed, whoever has set it (k8s.io/kubernetes,
        pkg/kubelet/pod_workers.go); the annotation has it look at once, because a change of the status alone waits for
        its next round, a minute later (pkg/kubelet/config).
        """
        metadata = {"uid": uid, "annotations": {EXITED_ANNOTATION: "true"}}
        body = {"metadata": metadata, "status": {"phase": phase, "message": "the trainer has exited"}}
        await self._client.strategic_merge_patch(f"{self._pods}/{pod}/status", body)

    async def apply_status(self, run: ObservedRun, fields: Mapping[str, Any]) -> Json:
        """Writes the operator's part of the status of the run as it was read; returns the run as it is after.

        A run that has changed since is a Conflict: what was decided about it may be wrong by now, and it may have
        ended.
        """
        metadata = {"name": run.name, "uid": run.uid, "resourceVersion": run.resource_version}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": dict(fields)}
        return await self._client.apply(f"{self._runs}/{run.name}/status", body)

    async def secret(self, name: str) -> Json | None:
        """The Secret of that name; the operator may read that of the installation only."""
        return await self._get(f"{self._secrets}/{name}")

    async def create_secret(self, manifest: Json) -> None:
        """Creates a Secret; one of its name is a Conflict."""
        await self._client.create(self._secrets, manifest)

    async def create_event(self, run: ObservedRun, event: Event, time: str) -> None:
        """Creates an event about the run, unless it exists already."""
        reference = {"apiVersion": API_VERSION, "kind": KIND, "name": run.name, "namespace": self._namespace}
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": self._namespace},
            "eventTime": time,
            "reportingController": f"{GROUP}/{OPERATOR}",
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "reason": event.reason[:128],
            "note": event.note,
            "type": "Warning" if event.is_warning else "Normal",
            "regarding": {**reference, "uid": run.uid},
        }
        with contextlib.suppress(Conflict):
            await self._client.create(self._events, body)

    async def _get(self, path: str) -> Json | None:
        try:
            return await self._client.get(path)
        except NotFound:
            return None

    async def _list(self, path: str, label_selector: str = "", field_selector: str = "") -> list[Json]:
        items: list[Json] = []
        async for page in self._client.pages(path, label_selector, field_selector):
            items.extend(page.get("items") or ())
        return items
