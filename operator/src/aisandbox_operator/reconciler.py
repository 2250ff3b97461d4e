"""Looks at one run and does what is planned about it.

Owns the order of reads and writes. Everything is read anew each time, so no stale view can decide. Two operators at the
same time are harmless: the Job's name is the run's, so it is made once; Jobs are changed and deleted by their uid; and
a status is written only over the version of the run that was read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog
from aisandbox_crds.times import format_precise_time, format_time
from aisandbox_kubernetes import Conflict, Forbidden, Invalid, KubernetesError, Refused

from aisandbox_operator.cluster import Cluster
from aisandbox_operator.decision import Action, CreateJob, DeleteJob, SuspendJob
from aisandbox_operator.decoding import read_job, read_pod, read_run
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.plan import Plan, plan
from aisandbox_operator.recollection import Recollection
from aisandbox_operator.settings import Settings
from aisandbox_operator.status_fields import own_fields
from aisandbox_operator.views import Observed, PodView, RunView

log = structlog.get_logger(__name__)


class Reconciler:
    """Reconciles runs of one namespace; ``now`` is the present time in UTC."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        recollection: Recollection,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._recollection = recollection
        self._metrics = metrics
        self._now = now

    async def reconcile(self, name: str) -> float | None:
        """Looks at the run and acts; the seconds after which to look again, None: not before something happens.

        Raises KubernetesError: look again after a while.
        """
        raw = await self._cluster.run(name)
        if raw is None:
            self._metrics.observe_phase(name, None)
            return None
        run = read_run(raw)
        observed = await self._observe(run)
        step = self._plan(run, observed)
        if step.disrupted is not None:
            await self._mark(run, step.disrupted)
        try:
            await self._act(run, step)
        except (Invalid, Forbidden) as error:
            if not isinstance(step.action, CreateJob):
                raise
            log.warning("the run's Job is refused", run=name, error=str(error))
            refused = replace(observed, refused=error.why, refused_for_good=isinstance(error, Invalid))
            step = self._plan(run, refused)
        await self._tell(run, step)
        await self._record(run, step)
        return step.look_again

    async def _observe(self, run: RunView) -> Observed:
        """The Job before the pods: a Job that is there cannot have lost its pods to a newer one."""
        job = await self._cluster.job(run.name)
        if run.status.phase.is_done or run.is_being_deleted:
            return Observed(None if job is None else read_job(job))
        pods = await self._cluster.pods(run.name)
        return Observed(
            job=None if job is None else read_job(job),
            pods=tuple(read_pod(pod) for pod in pods),
            heard=self._recollection.endings(run.uid),
        )

    def _plan(self, run: RunView, observed: Observed) -> Plan:
        return plan(run, observed, self._settings, self._now())

    async def _mark(self, run: RunView, pod: PodView) -> None:
        """Before the Job controller can count its end; one that is gone has been counted."""
        try:
            await self._cluster.mark_disrupted(pod.name, pod.uid, format_time(self._now()))
        except (Conflict, Refused) as error:
            log.warning("pod that is deleted could not be marked", run=run.name, pod=pod.name, error=str(error))
        else:
            log.info("pod is deleted by somebody", run=run.name, pod=pod.name)

    async def _act(self, run: RunView, step: Plan) -> None:
        if step.action is None:
            return
        await self._apply(run, step.action)
        log.info(_DONE[type(step.action)], run=run.name, **_details(step.action))

    async def _apply(self, run: RunView, action: Action) -> None:
        if isinstance(action, SuspendJob):
            await self._cluster.suspend_job(run.name, action.uid, action.suspended)
        elif isinstance(action, DeleteJob):
            await self._cluster.delete_job(run.name, action.uid)
        elif run.spec is not None:
            manifest = job_manifest(
                run.name, run.uid, run.spec, self._settings, action.failures_before, action.suspended
            )
            await self._cluster.create_job(manifest)
            self._metrics.observe_job()

    async def _tell(self, run: RunView, step: Plan) -> None:
        """Before the status is written, which makes it old news; an event that cannot be made is done without."""
        time = format_precise_time(self._now())
        for told in step.announcements:
            try:
                await self._cluster.announce(run, told, time)
            except KubernetesError as error:
                log.info("event could not be made", run=run.name, reason=told.reason, error=str(error))

    async def _record(self, run: RunView, step: Plan) -> None:
        phase = run.status.phase
        if step.status is not None:
            await self._cluster.apply_status(run, own_fields(step.status))
            if step.status.phase is not phase:
                failure = step.status.failure
                why = {} if failure is None else {"reason": failure.reason, "message": failure.message}
                log.info("phase of the run", run=run.name, phase=step.status.phase, attempt=step.status.attempt, **why)
            phase = step.status.phase
        self._metrics.observe_phase(run.name, phase)


_DONE = {CreateJob: "Job made", SuspendJob: "Job suspended or resumed", DeleteJob: "Job deleted"}


def _details(action: Action) -> dict[str, object]:
    if isinstance(action, DeleteJob):
        return {"job": action.uid}
    return {"suspended": action.suspended}
