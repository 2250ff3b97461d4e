"""The backend on Kubernetes: the TrainingRuns of a namespace.

Owns the order of what a call does: read the cache, call the API server only for what it lacks, put the answer back. Any
number of replicas may serve one namespace; what they must agree on is in the API server. Must not know gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import structlog
from aisandbox_crds import Phase, ProgressReport, TrainingRun, utc_now
from aisandbox_kubernetes import Configuration, load_configuration
from aisandbox_model_store import RunStore

from aisandbox_api.background_tasks import cancel
from aisandbox_api.errors import (
    BackendUnavailable,
    ClusterRefused,
    LimitReached,
    NotAuthenticated,
    RunDone,
    RunUnknown,
    ServiceStopping,
    StartupError,
)
from aisandbox_api.kubernetes.connection import Connection, connect
from aisandbox_api.kubernetes.deleted_runs import DeletedRuns
from aisandbox_api.kubernetes.live_progress import accept_report, is_urgent
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_views import RunViews
from aisandbox_api.kubernetes.service_pods import list_service_pods
from aisandbox_api.metrics import Metrics
from aisandbox_api.other_runs_checks import check_suspended
from aisandbox_api.settings import Settings

log = structlog.get_logger()

SYNC_SECONDS = 60.0
STALE_SECONDS = 180.0
COALESCE_SECONDS = 0.1
RECHECK_SECONDS = 5.0
CONFLICT_TRIES = 6


class KubernetesBackend:
    """See :class:`aisandbox_api.backend.Backend`. ``load`` finds the API server; for one event loop.

    Calls are answered while the watch's last contact is at most ``stale_seconds`` ago.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        load: Callable[[], Awaitable[Configuration]] = load_configuration,
        now: Callable[[], str] = utc_now,
        sync_seconds: float = SYNC_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._settings = settings
        self._load = load
        self._now = now
        self._sync_seconds = sync_seconds
        self._stale_seconds = stale_seconds
        self._observe = metrics.observe_run
        self._metrics = ClusterMetrics(metrics.registry)
        self._views = RunViews()
        self._cache = RunCache(self._changed)
        self._connected: Connection | None = None
        self._removal: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        """Connects and waits until all runs are listed. Raises StartupError with the cause and what to do."""
        parts = self._settings, self._cache, self._views, self._metrics
        self._connected = connection = await connect(self._load, *parts)
        connection.watch.start()
        if not await connection.watch.synced(self._sync_seconds):
            raise StartupError(
                f"the TrainingRuns of namespace {self._settings.pod_namespace!r} could not be listed within "
                f"{self._sync_seconds:g} s: {connection.watch.last_error or 'no answer'}. Are the resource definition "
                "and this service account's role installed?"
            )
        await connection.permissions.start()

    async def start(
        self, progress_address: str, adapter_address: str | None, session_socket: Path | None = None
    ) -> None:
        """Starts to remove the files of deleted runs; the operator trains runs and sets where trainers report."""
        settings = self._settings
        deleted = DeletedRuns(
            RunStore(settings.models_dir, settings.checkpoint_dir),
            self._cache,
            self._connection().resources,
            self._metrics,
            settings.deleted_run_retention_seconds,
        )
        self._removal = asyncio.create_task(deleted.run(lambda: not self.unavailable))

    async def close(self) -> None:
        """Disconnects; trainers are not affected."""
        self._closing = True
        self._views.notify_all()
        await cancel(self._removal)
        if self._connected is not None:
            await self._connected.close()

    @property
    def unavailable(self) -> str:
        """Why calls cannot be answered; empty while the cache is up to date."""
        if self._connected is None or not self._connected.watch.is_synced:
            return "the service has not listed the runs of the cluster yet: retry in a moment"
        watch = self._connected.watch
        if (age := watch.age()) <= self._stale_seconds:
            return ""
        return f"the last contact with the cluster is {age:.0f} s ago: {watch.last_error or 'no contact'}"

    @property
    def unready(self) -> str:
        """Why the service should get no calls: it is unavailable, or lacks a permission that it needs."""
        return self.unavailable or (self._connected.permissions.problem if self._connected is not None else "")

    async def list_service_pods(self, service: str, port: str) -> frozenset[str]:
        """host:port of the ready pods of a Service of the namespace. Raises BackendUnavailable, ClusterRefused."""
        if self._connected is None:
            raise BackendUnavailable("the service is not connected to the cluster yet")
        return await list_service_pods(self._connected.client, self._settings.pod_namespace, service, port)

    async def create(self, run: TrainingRun) -> TrainingRun:
        """Creates the resource; of several replicas that do so at once, all get the same run.

        Raises InvalidRequest, LimitReached, BackendUnavailable.
        """
        connection = self._connection()
        if self._closing:
            raise ServiceStopping("the service is stopping: send the start again in a moment")
        if (known := self._views.runs.get(run.name)) is not None and not known.deletion_time:
            return known
        self._check_pending()
        check_suspended(self._cache.runs.values(), self._settings.max_suspended_runs)
        try:
            created: TrainingRun | None = await connection.resources.create(run)
        except ClusterRefused as error:
            if error.code != 409:
                raise
            created = await connection.resources.get(run.name)
        if created is None or created.deletion_time:
            raise BackendUnavailable(
                f"a run of the same name, {run.name!r}, is being deleted: send the start again in a moment"
            )
        return self._put(created)

    async def get(self, name: str) -> TrainingRun:
        """The run. Raises RunUnknown, BackendUnavailable."""
        connection = self._connection()
        if name not in self._views.runs:
            await connection.lookup.look_up(name)
        if (run := self._views.runs.get(name)) is None:
            raise RunUnknown(name)
        return run

    async def find_request(self, request_id: str, owner: str = "") -> TrainingRun | None:
        """The run of that request; one of another replica may be found only by its name, when it is created."""
        self._connection()
        run = self._cache.of_request(request_id, owner)
        return None if run is None or run.deletion_time else self._views.runs[run.name]

    async def list(self) -> Sequence[TrainingRun]:
        """Every run."""
        self._connection()
        return list(self._views.runs.values())

    async def watch(self, name: str) -> AsyncIterator[TrainingRun]:
        """See Backend.watch."""
        seen = None
        while True:
            run = await self.get(name)
            changed = self._views.changed(name)  # after: no client waits for a run that does not exist
            if run is not seen:
                yield (seen := run)
                if run.status.phase.is_done:
                    return
                await asyncio.sleep(COALESCE_SECONDS)
            elif self._closing:
                raise ServiceStopping("the service is stopping: watch again in a moment")
            else:
                with contextlib.suppress(TimeoutError):  # to notice that the cluster is silent
                    await asyncio.wait_for(changed.wait(), RECHECK_SECONDS)

    async def cancel(self, name: str) -> TrainingRun:
        """Asks the operator to end the run permanently."""
        run = await self.get(name)
        return run if run.status.phase is Phase.CANCELLED else await self._ask(name, "cancelled", "cancel", True)

    async def suspend(self, name: str) -> TrainingRun:
        """Asks the operator to pause the run."""
        return await self._ask(name, "suspended", "suspend", True)

    async def resume(self, name: str) -> TrainingRun:
        """Asks the operator to resume the run."""
        return await self._ask(name, "resumed", "suspend", False)

    async def report(self, name: str, report: ProgressReport, token: str | None) -> None:
        """Takes a report from a trainer's pod. Raises RunUnknown, ReportRefused, BackendUnavailable."""
        run, before = await self.run_of_trainer(name, token), self._views.runs[name]
        connection = self._connection()
        live = accept_report(run, self._views.live(run.name), report, self._now())
        if live.attempt != before.status.progress.attempt:
            log.info("trainer reports", run=run.name, attempt=report.attempt, activity=report.activity)
        urgent = is_urgent(before.status, live.status)
        self._views.apply_report(run.name, live)
        connection.writer.schedule(run.name, urgent)

    async def run_of_trainer(self, name: str, token: str | None) -> TrainingRun:
        """The run as the cluster has it, whose trainer's pod has ``token``.

        Raises RunUnknown, ReportRefused, BackendUnavailable.
        """
        if not token:
            raise NotAuthenticated("authorization: metadata 'Bearer TOKEN' is missing")
        connection = self._connection()
        await self.get(name)
        asked = self._resource(name)
        await connection.tokens.check(token, asked)
        run = self._resource(name)
        if run.uid != asked.uid:
            raise RunUnknown(run.name, "it has been deleted, and another one has its name")
        return run

    async def _ask(self, name: str, verb: str, field: str, value: bool) -> TrainingRun:
        """Sets a field of the spec unless the run is done, reading it again whenever another client has changed it."""
        await self.get(name)
        connection, run = self._connection(), self._resource(name)
        for _ in range(CONFLICT_TRIES):
            if run.status.phase is Phase.CANCELLED and field == "cancel":
                return self._put(run)
            if run.status.phase.is_done:
                raise RunDone(name, run.status.phase, verb)
            if getattr(run.spec, field) is value:
                return self._put(run)
            try:
                return self._put(await connection.resources.change_spec(run, **{field: value}))
            except ClusterRefused as error:
                if error.code not in (404, 409):
                    raise
            asked = await connection.resources.get(name)
            if asked is None:
                raise RunUnknown(name, "it has been deleted")
            run = asked
        raise BackendUnavailable(f"run {name!r} is being changed concurrently: retry the call")

    def _put(self, run: TrainingRun) -> TrainingRun:
        """Puts an answer into the cache; the run as clients see it, also if it has been deleted since."""
        self._cache.put(run)
        return self._views.runs.get(run.name, run)

    def _resource(self, name: str) -> TrainingRun:
        if (run := self._cache.runs.get(name)) is None:  # deleted while something else was awaited
            raise RunUnknown(name)
        return run

    def _connection(self) -> Connection:
        """Raises BackendUnavailable rather than answering from a cache that may be out of date."""
        why = self.unavailable
        if why or self._connected is None:
            raise BackendUnavailable(why)
        return self._connected

    def _check_pending(self) -> None:
        limit = self._settings.max_pending_runs
        pending = sum(run.status.phase in (Phase.PENDING, Phase.STARTING) for run in self._cache.runs.values())
        if pending >= max(limit, 1):
            raise LimitReached(
                "MAX_PENDING_RUNS",
                f"{pending} runs are pending, and the limit MAX_PENDING_RUNS is {limit}: wait until one trains, cancel "
                "or suspend one, add nodes to the cluster, or raise MAX_PENDING_RUNS",
            )

    def _changed(self, before: TrainingRun | None, after: TrainingRun | None) -> None:
        self._observe(before, after)
        self._views.apply_cluster_change(before, after)
        if before is not None and (after is None or after.status.phase.is_done) and self._connected is not None:
            self._connected.writer.forget(before.name)
        if after is None and before is not None:
            log.info("run is deleted", run=before.name)
        elif after is not None and (before is None or before.status.phase is not after.status.phase):
            log.info("run phase changed", run=after.name, phase=after.status.phase, attempt=after.status.attempt)
