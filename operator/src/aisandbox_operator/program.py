"""The operator as a whole: makes the parts, runs them, ends them in order.

Owns who knows whom. SIGTERM (by kopf): the watches end, each worker finishes the run it is at, then all is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from random import Random

import kopf
import structlog
from aisandbox_kubernetes import Client, NotConfigured, load_configuration
from kopf._core.engines.peering import Identity

from aisandbox_operator.cluster import Cluster
from aisandbox_operator.errors import NoCluster
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.names import FIELD_MANAGER
from aisandbox_operator.probes import Probes, health_problem
from aisandbox_operator.recollection import Recollection
from aisandbox_operator.reconciler import Reconciler
from aisandbox_operator.resync import Resync
from aisandbox_operator.settings import Settings
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
    recollection = Recollection()
    client = Client(configuration, user_agent=FIELD_MANAGER, observe=metrics.observe_call)
    cluster = Cluster(client, settings.namespace, instance)
    reconciler = Reconciler(cluster, settings, recollection, metrics, _now)
    resync = Resync(cluster, settings, queue, recollection, metrics, _now, random)
    workers = Workers(queue, reconciler, metrics, settings.workers)
    watches = Watches(configuration, queue, recollection, resync.soon)
    probes = Probes(
        lambda: health_problem(resync.age, settings.resync_seconds, recollection.silent_watches),
        lambda: "" if resync.has_succeeded.is_set() else "runs, Jobs and pods could not be listed yet; see the log",
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        stack.callback(metrics.close)
        metrics.serve(settings.metrics_port)
        stack.push_async_callback(probes.close)
        probe_port = await probes.serve(settings.probe_port)
        log.info("operator", namespace=settings.namespace, metrics_port=metrics.port, probe_port=probe_port)
        parts = await stack.enter_async_context(_at_work(workers, resync))
        watching = asyncio.ensure_future(_watch(settings, watches, resync, instance))
        await _until_one_ends(watching, *parts)
        log.info("operator stops")


@contextlib.asynccontextmanager
async def _at_work(workers: Workers, resync: Resync) -> AsyncIterator[tuple[Task, Task]]:
    """Both run meanwhile. Started before kopf, which at its end cancels every task that began after it."""
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
    """Begins when everything could be listed: kopf looks only once which resources there are."""
    await resync.has_succeeded.wait()
    await kopf.operator(
        registry=watches.registry,
        settings=watches.settings,
        namespaces=[settings.namespace],
        standalone=True,
        identity=Identity(instance),  # kopf's own has the user's name, and a container's user has none
    )


async def _until_one_ends(watching: Task, *parts: Task) -> None:
    """Kopf ends when it is told to; a part that ends by itself ends the operator, which is then started anew."""
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
