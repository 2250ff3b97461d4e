"""The parts of the backend that call the API server, made once it is known where that is.

Must not know what a call of a client needs of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aisandbox_kubernetes import Client, Configuration, NotConfigured, Retry

from aisandbox_api.errors import StartupError
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.progress_writer import ProgressWriter
from aisandbox_api.kubernetes.required_permissions import FOR_CALLERS, NEEDED, PermissionChecks
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_lookup import RunLookup
from aisandbox_api.kubernetes.run_resources import API_MANAGER, RunResources
from aisandbox_api.kubernetes.run_views import RunViews
from aisandbox_api.kubernetes.run_watch import RunWatch
from aisandbox_api.kubernetes.token_reviewer import TokenReviewer
from aisandbox_api.settings import Settings

CALL_SECONDS = 5.0
RETRY = Retry(tries=3)
"""Every call the service makes may be repeated."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The parts of one backend; they share ``client``."""

    client: Client
    resources: RunResources
    watch: RunWatch
    lookup: RunLookup
    writer: ProgressWriter
    tokens: TokenReviewer
    permissions: PermissionChecks

    async def close(self) -> None:
        """Ends what they do, in the order in which they depend on each other."""
        await self.permissions.close()
        await self.writer.close()
        await self.watch.close()
        await self.client.close()


async def connect(
    load: Callable[[], Awaitable[Configuration]],
    settings: Settings,
    cache: RunCache,
    views: RunViews,
    metrics: ClusterMetrics,
) -> Connection:
    """The parts, which call nothing yet. ``load`` finds the API server. Raises StartupError where there is none."""
    try:
        configuration = await load()
    except NotConfigured as error:
        raise StartupError(
            f"BACKEND kubernetes: neither a pod's service account nor a kubeconfig can be used ({error}); run the "
            "service in the cluster, or set KUBECONFIG"
        ) from error
    observe = metrics.observe_call
    client = Client(
        configuration, API_MANAGER, call_seconds=CALL_SECONDS, connect_seconds=None, retry=RETRY, observe=observe
    )
    resources = RunResources(client, settings.pod_namespace)
    watch = RunWatch(resources, cache, metrics)
    metrics.read_age_from(watch.age)
    needed = (*NEEDED, *((FOR_CALLERS,) if settings.access.auth == "kubernetes" else ()))
    return Connection(
        client,
        resources,
        watch,
        RunLookup(resources, cache),
        ProgressWriter(resources, cache, views.live, metrics),
        TokenReviewer(client, settings.pod_namespace, settings.progress_audience),
        PermissionChecks(client, settings.pod_namespace, metrics, needed=needed),
    )
