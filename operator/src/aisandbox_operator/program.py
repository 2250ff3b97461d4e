"""The operator as a whole: creates its parts, runs them, and ends them in order.

Owns which part gets which. SIGTERM (handled by kopf): the watches end, each worker finishes its reconcile, then
everything is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

import kopf
import structlog
from aisandbox_kubernetes import Client, NotConfigured, load_configuration
from aisandbox_process.metrics_server import MetricsServer

from aisandbox_operator import kopf_patch
from aisandbox_operator.cluster import Cluster
from aisandbox_operator.errors import AddressInUse, NoCluster
from aisandbox_operator.job_manifest import OPERATOR
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.probes import Probes, health_problem
from aisandbox_operator.reconciler import Reconciler
from aisandbox_operator.resync import Resync
from aisandbox_operator.run_keys import RunKeys
from aisandbox_operator.settings import Settings
from aisandbox_operator.watch_cache import WatchCache
from aisandbox_operator.watches import Watches
from aisandbox_operator.work_queue import WorkQueue
from aisandbox_operator.workers import Workers

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 20.0
Task = asyncio.Future[None]


async def operate(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Raises StartupError, and whatever ends kopf."""
    metrics = Metrics()
    try:
        configuration = await load_configuration(settings.kube_context)
    except NotConfigured as error:
        raise NoCluster(str(error)) from error
    instance = f"{socket.gethostname()}-{os.getpid()}"
    random = Random()  # noqa: S311 - spreads retries
    queue = WorkQueue(random, metrics.queue_depth.set)
    watch_cache = WatchCache()
    client = Client(configuration, OPERATOR, observe=metrics.observe_call)
    cluster = Cluster(client, settings.namespace, instance)
    reconciler = Reconciler(cluster, settings, watch_cache, metrics, _now, RunKeys(cluster, _now))
    resync = Resync(cluster, settings, queue, watch_cache, metrics, _now, random)
    workers = Workers(queue, reconciler, metrics, settings.workers)
    watches = Watches(configuration, queue, watch_cache, resync.request)
    probes = Probes(
        lambda: health_problem(resync.age, settings.resync_seconds, watch_cache.silent_watches),
        lambda: "" if resync.has_succeeded.is_set() else "runs, Jobs and pods could not be listed yet; see the log",
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        metrics_server = serve_metrics(metrics, settings.metrics_port)
        stack.callback(metrics_server.close)
        stack.push_async_callback(probes.close)
        probe_port = await probes.serve(settings.probe_port)
        ports = {"metrics_port": metrics_server.port, "probe_port": probe_port}
        log.info("operator starts", namespace=settings.namespace, **ports)
        parts = await stack.enter_async_context(_running(workers, resync))
        if settings.kopf_patch == "on":
            await kopf_patch.install()
        watching = asyncio.ensure_future(_watch(settings, watches, resync, instance))
        await _until_one_ends(watching, *parts)
        log.info("operator stops")


def serve_metrics(metrics: Metrics, port: int) -> MetricsServer:
    """Serves them on all interfaces. Raises AddressInUse."""
    try:
        return MetricsServer(metrics.registry, "0.0.0.0", port)  # noqa: S104
    except OSError as error:
        raise AddressInUse("METRICS_PORT", port) from error


@contextlib.asynccontextmanager
async def _running(workers: Workers, resync: Resync) -> AsyncIterator[tuple[Task, Task]]:
    """Runs both. They are started before kopf, which at its end cancels every task that was started after it."""
    working, resyncing = asyncio.ensure_future(workers.run()), asyncio.ensure_future(resync.run())
    try:
        yield working, resyncing
    finally:
        resyncing.cancel()
        workers.stop()
        await asyncio.wait([working, resyncing], timeout=DRAIN_SECONDS)
        working.cancel()
        await asyncio.gather(working, resyncing, return_exceptions=True)


async def _watch(settings: Settings, watches: Watches, resync: Resync, instance: str) -> None:
    """Starts when everything could be listed: kopf discovers only once which resources exist."""
    await resync.has_succeeded.wait()
    await kopf.operator(
        registry=watches.registry,
        settings=watches.settings,
        namespaces=[settings.namespace],
        standalone=True,
        identity=cast(Any, instance),  # kopf's default has the user's name, and a container's user has none
    )


async def _until_one_ends(watching: Task, *parts: Task) -> None:
    """Kopf ends on SIGTERM; a part that ends by itself ends the operator, which Kubernetes restarts."""
    try:
        ended, _ = await asyncio.wait([watching, *parts], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        if not watching.done():
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def _now() -> datetime:
    return datetime.now(UTC)
