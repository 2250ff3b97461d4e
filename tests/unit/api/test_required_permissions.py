"""The service asks the cluster whether it may do what it needs, and says so where it may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aisandbox_api import Settings
from aisandbox_api.health import HealthMonitor, RunHealth
from aisandbox_api.kubernetes import KubernetesBackend
from aisandbox_api.kubernetes.required_permissions import NEEDED, PermissionChecks
from aisandbox_api.metrics import Metrics
from aisandbox_kubernetes import Client, Configuration
from fake_kubernetes import NAMESPACE, FakeKubernetes
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

PATIENCE_SECONDS = 60.0
REVIEW = "selfsubjectaccessreviews"


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - a state of the other end
            await asyncio.sleep(0.02)


def checking(client: Client, registry: CollectorRegistry) -> PermissionChecks:
    from aisandbox_api.kubernetes.metrics import ClusterMetrics

    return PermissionChecks(client, NAMESPACE, ClusterMetrics(registry), check_seconds=0.05, missing_check_seconds=0.05)


async def test_missing_permission_is_in_the_log_and_the_metrics_until_it_is_there(api: FakeKubernetes) -> None:
    api.refused_permissions = {"create tokenreviews"}
    client, registry = Client(Configuration(host=api.url), name="test"), CollectorRegistry()
    permissions = checking(client, registry)
    with capture_logs() as logs:
        await permissions.start()
        assert "create tokenreviews.authentication.k8s.io: trainers cannot report progress" in permissions.problem
        assert f"namespace '{NAMESPACE}'" in permissions.problem
        errors = [entry["problem"] for entry in logs if entry["log_level"] == "error"]
        assert errors == [permissions.problem]
        text = generate_latest(registry).decode()
        assert 'aisandbox_permission_missing{resource="tokenreviews",verb="create"} 1.0' in text
        assert 'aisandbox_permission_missing{resource="pods",verb="get"} 0.0' in text
        asked = api.count("POST", REVIEW)
        await until(lambda: api.count("POST", REVIEW) > asked + 3 * len(NEEDED))
        assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1, "it is said once"
        api.refused_permissions = set()
        await until(lambda: not permissions.problem)
    await permissions.close()
    await client.close()
    text = generate_latest(registry).decode()
    assert 'aisandbox_permission_missing{resource="tokenreviews",verb="create"} 0.0' in text


@pytest.mark.parametrize("permission", NEEDED, ids=str)
async def test_permission_that_is_taken_away_later_is_missed(api: FakeKubernetes, permission: object) -> None:
    client = Client(Configuration(host=api.url), name="test")
    permissions = checking(client, CollectorRegistry())
    await permissions.start()
    assert permissions.problem == ""
    api.refused_permissions = {str(permission).partition(".")[0]}
    await until(lambda: str(permission) in permissions.problem)
    await permissions.close()
    await client.close()


async def test_cluster_that_does_not_answer_changes_nothing(api: FakeKubernetes) -> None:
    client = Client(Configuration(host=api.url), name="test")
    permissions = checking(client, CollectorRegistry())
    api.refuse_all = True
    await permissions.start()
    assert permissions.problem == ""
    api.refuse_all, api.refused_permissions = False, {"get pods"}
    await until(lambda: "get pods" in permissions.problem)
    api.refuse_all = True
    asked = api.count("POST", REVIEW)
    await until(lambda: api.count("POST", REVIEW) > asked + 3)
    assert "get pods" in permissions.problem
    await permissions.close()
    await client.close()


async def test_service_without_a_permission_is_not_ready_and_still_answers(api: FakeKubernetes, tmp_path: Path) -> None:
    api.refused_permissions = {"create tokenreviews"}
    api.add("walk")

    async def load() -> Configuration:
        return Configuration(host=api.url)

    settings = Settings(grpc_port=0, models_dir=tmp_path, backend="kubernetes", pod_namespace=NAMESPACE)
    backend = KubernetesBackend(settings, Metrics(), load)
    await backend.open()
    health = RunHealth()
    monitor = HealthMonitor(health, ("",), backend)
    await monitor.start()
    try:
        assert (backend.unavailable, "tokenreviews" in backend.unready) == ("", True)
        request = health_pb2.HealthCheckRequest()
        answer = await health.Check(request, None)  # type: ignore[arg-type]
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await backend.get("walk")).name == "walk"
    finally:
        await monitor.stop()
        await backend.close()
