"""The operator over the cluster in memory of :mod:`job_world`."""

from __future__ import annotations

from typing import Any, cast

from aisandbox_kubernetes import KubernetesError
from aisandbox_operator.cluster import Cluster
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.reconciler import Reconciler
from aisandbox_operator.watch_cache import WatchCache
from job_world import Crash, World
from operator_objects import SETTINGS


class _Calls:
    """The world as the operator's client: ``pods`` is a call there and a fact here."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, "pods_labelled" if name == "pods" else name)


def reconciler_of(world: World) -> Reconciler:
    return Reconciler(cast(Cluster, _Calls(world)), SETTINGS, WatchCache(), Metrics(), lambda: world.now)


async def reconcile(reconciler: Reconciler, name: str) -> bool:
    """Whether it went through."""
    try:
        await reconciler.reconcile(name)
    except (KubernetesError, Crash):
        return False
    return True
