"""The resync: lists everything at an interval, so that a lost watch event has no lasting effect.

Three LISTs, whatever the number of runs; a run is queued only where its plan, made from the lists, is not empty. The
lists are not of the same moment: they decide which runs are reconciled, never what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

import structlog
from aisandbox_crds import RUN_LABEL
from aisandbox_kubernetes import KubernetesError

from aisandbox_operator.cluster import Cluster
from aisandbox_operator.decoding import read_job, read_run
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.observed_objects import ObservedPod, RelatedObjects
from aisandbox_operator.plan import plan
from aisandbox_operator.pod_decoding import read_pod
from aisandbox_operator.settings import Settings
from aisandbox_operator.watch_cache import WatchCache
from aisandbox_operator.work_queue import WorkQueue

log = structlog.get_logger(__name__)

BURST_SECONDS = 1.0
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0


class Resync:
    """Lists all runs of the namespace."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        queue: WorkQueue,
        watch_cache: WatchCache,
        metrics: Metrics,
        now: Callable[[], datetime],
        random: Random,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._queue = queue
        self._watch_cache = watch_cache
        self._metrics = metrics
        self._now = now
        self._random = random
        self._succeeded: float | None = None
        self._requested = asyncio.Event()
        self.has_succeeded = asyncio.Event()
        self._began = asyncio.get_running_loop().time()

    @property
    def age(self) -> float:
        """Seconds since the last resync that succeeded, or since the start."""
        return asyncio.get_running_loop().time() - (self._began if self._succeeded is None else self._succeeded)

    def request(self) -> None:
        """Asks for a resync in a moment."""
        self._requested.set()

    async def run(self) -> None:
        """Resyncs until it is cancelled; after a failure again within half a minute."""
        retry = FIRST_RETRY_SECONDS
        while True:
            try:
                await self.once()
            except KubernetesError as error:
                log.warning("resync failed", error=str(error), retry_after=retry)
                await asyncio.sleep(retry * self._random.uniform(0.5, 1.0))
                retry = min(2 * retry, LONGEST_RETRY_SECONDS)
            except Exception:
                log.exception("resync failed")
                await asyncio.sleep(LONGEST_RETRY_SECONDS)
            else:
                retry = FIRST_RETRY_SECONDS
                await self._pause()

    async def _pause(self) -> None:
        """Waits until the next one is due or requested, and a moment longer, because requests come in bursts."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.resync_seconds):
                await self._requested.wait()
                await asyncio.sleep(BURST_SECONDS)
        self._requested.clear()

    async def once(self) -> None:
        """Queues every run whose plan is not empty. Raises KubernetesError."""
        runs, jobs, pods = (
            await self._cluster.all_runs(),
            await self._cluster.all_jobs(),
            await self._cluster.all_pods(),
        )
        jobs_by_name = {job["metadata"]["name"]: read_job(job) for job in jobs}
        pods_by_run: dict[str, list[ObservedPod]] = defaultdict(list)
        for pod in pods:
            pods_by_run[_run_of(pod)].append(read_pod(pod))
        phases, files_uids = {}, set()
        for raw in runs:
            run = read_run(raw)
            phases[run.name] = run.status.phase
            files_uids.add(run.files_uid)
            related = RelatedObjects(jobs_by_name.get(run.name), tuple(pods_by_run[run.name]))
            step = plan(run, related, self._settings, self._now())
            if not step.is_empty:
                self._queue.add(run.name)
            elif step.requeue_after is not None and not self._queue.has_timer(run.name):
                self._queue.add_after(run.name, step.requeue_after)
        self._metrics.observe_runs(phases)
        self._watch_cache.retain_runs(files_uids)
        now = asyncio.get_running_loop().time()
        self._watch_cache.compare_with_list({"trainingruns": runs, "jobs": jobs, "pods": pods}, now)
        for kind in self._watch_cache.silent_watches:
            log.error("a watch delivers nothing", kind=kind)
        self._succeeded = now
        self.has_succeeded.set()
        self._metrics.observe_resync()


def _run_of(pod: dict[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get(RUN_LABEL, ""))
