"""Reconciles one run: reads it with its Job and pods, makes a plan, and carries it out.

Owns the order of reads and writes. Everything is read again each time, so no stale cache can decide. Two operators at
the same time are harmless: the Job's name is the run's, so it is created once; Jobs are changed and deleted by their
uid; and a status is written only over the version of the run that was read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog
from aisandbox_crds import format_precise_time, format_time
from aisandbox_kubernetes import (
    CallFailed,
    Conflict,
    Forbidden,
    Invalid,
    KubernetesError,
    Refused,
    WebhookUnavailable,
)

from aisandbox_operator.cluster import Cluster
from aisandbox_operator.decision import Action, CreateJob, DeleteJob, EndPod, SuspendJob
from aisandbox_operator.decoding import read_job, read_run
from aisandbox_operator.events import Event, refusal_event
from aisandbox_operator.job_manifest import job_manifest, resumed_annotations
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.observed_objects import ObservedPod, ObservedRun, RelatedObjects
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.plan import Plan, plan
from aisandbox_operator.pod_decoding import read_pod, read_pod_refusal
from aisandbox_operator.rules.training import is_without_pod
from aisandbox_operator.run_keys import RunKeys
from aisandbox_operator.settings import Settings
from aisandbox_operator.status_fields import own_fields
from aisandbox_operator.watch_cache import WatchCache

log = structlog.get_logger(__name__)


class Reconciler:
    """Reconciles runs of one namespace.

    ``now`` is the present time in UTC. ``keys``: of the runs; None: they sign no checkpoints.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        watch_cache: WatchCache,
        metrics: Metrics,
        now: Callable[[], datetime],
        keys: RunKeys | None = None,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._watch_cache = watch_cache
        self._metrics = metrics
        self._now = now
        self._keys = keys

    async def reconcile(self, name: str) -> float | None:
        """Reconciles the run; the seconds after which to requeue it, None: not before an event.

        Raises KubernetesError: requeue it after a backoff.
        """
        raw = await self._cluster.run(name)
        if raw is None:
            self._metrics.observe_phase(name, None)
            return None
        run = read_run(raw)
        related = await self._read_related(run)
        step = self._plan(run, related)
        if step.disrupted_pod is not None:
            await self._mark_disrupted(run, step.disrupted_pod)
        try:
            await self._act(run, step)
        except (Invalid, Forbidden, WebhookUnavailable) as error:
            if not isinstance(step.action, CreateJob):
                await self._create_event(run, refusal_event(run, error.why, isinstance(error, WebhookUnavailable)))
                raise
            log.warning("the API server refuses the run's Job", run=name, error=str(error))
            step = self._plan(run, _with_refusal(related, error))
        await self._create_events(run, step)
        await self._write_status(run, step)
        return step.requeue_after

    async def _read_related(self, run: ObservedRun) -> RelatedObjects:
        """The Job first, then the pods: a Job that exists cannot have lost its pods to a newer one."""
        job = await self._cluster.job(run.name)
        if run.status.phase.is_done or run.is_being_deleted:
            return RelatedObjects(None if job is None else read_job(job))
        pods = await self._cluster.pods(run.name)
        related = RelatedObjects(
            job=None if job is None else read_job(job),
            pods=tuple(read_pod(pod) for pod in pods),
            recorded_messages=self._watch_cache.termination_messages(run.files_uid),
        )
        return replace(related, pod_refusal=await self._read_pod_refusal(run, related))

    async def _read_pod_refusal(self, run: ObservedRun, related: RelatedObjects) -> str:
        """Why the Job has no pod, as its events tell; empty if it has one, or none of them tells."""
        state = ObservedState(run, related, self._settings, self._now())
        if state.job is None or not is_without_pod(state):
            return ""
        try:
            return read_pod_refusal(await self._cluster.refused_pods(state.job.uid))
        except CallFailed as error:
            log.warning("the events of the run's Job could not be read", run=run.name, error=str(error))
            return ""

    def _plan(self, run: ObservedRun, related: RelatedObjects) -> Plan:
        return plan(run, related, self._settings, self._now())

    async def _mark_disrupted(self, run: ObservedRun, pod: ObservedPod) -> None:
        """Before the Job controller can count its end; a pod that no longer exists has been counted."""
        try:
            await self._cluster.mark_disrupted(pod.name, pod.uid, format_time(self._now()))
        except (Conflict, Refused) as error:
            log.warning(
                "pod that is being deleted could not be marked as disrupted",
                run=run.name,
                pod=pod.name,
                error=str(error),
            )
        else:
            log.info("pod is being deleted, and is marked as disrupted", run=run.name, pod=pod.name)

    async def _act(self, run: ObservedRun, step: Plan) -> None:
        if step.action is None:
            return
        await self._apply(run, step.action)
        log.info(_DONE[type(step.action)], run=run.name, **_details(step.action))

    async def _apply(self, run: ObservedRun, action: Action) -> None:
        if isinstance(action, SuspendJob):
            annotations = {} if action.suspended else resumed_annotations(run.generation)
            await self._cluster.suspend_job(run.name, action.uid, action.suspended, annotations)
        elif isinstance(action, EndPod):
            await self._cluster.end_pod(action.name, action.uid, action.phase)
        elif isinstance(action, DeleteJob):
            await self._cluster.delete_job(run.name, action.uid)
        elif run.spec is not None:
            manifest = job_manifest(
                run.name,
                run.uid,
                run.spec,
                self._settings,
                action.failures_before,
                action.suspended,
                run.labels,
                files_uid=run.files_uid,
                generation=run.generation,
                key=None if self._keys is None else await self._keys.source(run),
            )
            await self._cluster.create_job(manifest)
            self._metrics.observe_job()

    async def _create_events(self, run: ObservedRun, step: Plan) -> None:
        """Before the status is written, after which they would not be due; without one that cannot be created."""
        for event in step.events:
            await self._create_event(run, event)

    async def _create_event(self, run: ObservedRun, event: Event) -> None:
        try:
            await self._cluster.create_event(run, event, format_precise_time(self._now()))
        except KubernetesError as error:
            log.info("event could not be created", run=run.name, reason=event.reason, error=str(error))

    async def _write_status(self, run: ObservedRun, step: Plan) -> None:
        phase = run.status.phase
        if step.status is not None:
            await self._cluster.apply_status(run, own_fields(step.status))
            if step.status.phase is not phase:
                failure = step.status.failure
                why = {} if failure is None else {"reason": failure.reason, "message": failure.message}
                log.info("run phase changed", run=run.name, phase=step.status.phase, attempt=step.status.attempt, **why)
            phase = step.status.phase
        self._metrics.observe_phase(run.name, phase)


_DONE = {
    CreateJob: "Job created",
    SuspendJob: "Job suspended or resumed",
    DeleteJob: "Job deleted",
    EndPod: "pod ended, because its trainer has exited",
}


def _with_refusal(related: RelatedObjects, error: CallFailed) -> RelatedObjects:
    """The objects and why the Job was not created."""
    return replace(
        related,
        job_refusal=error.why,
        is_refused_permanently=isinstance(error, Invalid),
        is_webhook_down=isinstance(error, WebhookUnavailable),
    )


def _details(action: Action) -> dict[str, object]:
    if isinstance(action, DeleteJob):
        return {"job": action.uid}
    if isinstance(action, EndPod):
        return {"pod": action.name, "phase": action.phase}
    return {"suspended": action.suspended}
