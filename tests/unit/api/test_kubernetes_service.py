"""The whole service on the Kubernetes backend: what a client and a kubelet see of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings, create_server
from aisandbox_api.kubernetes import KubernetesBackend
from aisandbox_api.metrics import Metrics
from fake_kubernetes import NAMESPACE, FakeKubernetes
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kubernetes.aio.client import Configuration

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_SECONDS = 10.0


@pytest.fixture
async def api() -> AsyncIterator[FakeKubernetes]:
    api = FakeKubernetes()
    await api.start()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.1)
            api.bookmark()

    beating = asyncio.create_task(beat())
    yield api
    beating.cancel()
    await api.stop()


@pytest.fixture
async def channel(api: FakeKubernetes, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    async def load() -> Configuration:
        return Configuration(host=api.url)

    settings = Settings(grpc_port=0, models_dir=tmp_path, backend="kubernetes", pod_namespace=NAMESPACE)
    backend = KubernetesBackend(settings, Metrics(), load, stale_seconds=1.0)
    server = create_server(settings, backend=backend)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield channel
    finally:
        await server.stop(grace=0)


async def test_health_follows_the_cluster_and_liveness_the_process(
    api: FakeKubernetes, channel: grpc.aio.Channel
) -> None:
    health = health_pb2_grpc.HealthStub(channel)

    async def until(wanted: object) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await health.Check(health_pb2.HealthCheckRequest())).status != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    await until(SERVING)
    api.refuse_all = True
    api.drop_watches()
    await until(NOT_SERVING)
    assert (await health.Check(health_pb2.HealthCheckRequest(service="liveness"))).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await PolicyTrainerServiceStub(channel).GetTrainingStatus(pb.StatusRequest(run_id="a"))
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "last contact with the cluster" in (refusal.value.details() or "")
    api.refuse_all = False
    await until(SERVING)


async def test_start_by_grpc_creates_a_resource_with_the_requested_spec(
    api: FakeKubernetes, channel: grpc.aio.Channel
) -> None:
    stub = PolicyTrainerServiceStub(channel)
    request = pb.TrainingRequest(
        experiment_id="lander", total_timesteps=500, hyperparameters={"gamma": "0.9"}, model_output_path="a"
    )
    run = (await stub.StartTrainingA2C(request)).run_id
    resource = api.objects[run]
    assert resource["spec"]["algorithm"] == "A2C"
    assert resource["spec"]["hyperparameters"] == {"gamma": "0.9"}
    assert resource["spec"]["modelOutputPath"] == "a.zip"
    assert 0 <= resource["spec"]["seed"] < 2**32
    assert resource["metadata"]["annotations"]["aisandbox.dev/experiment-id"] == "lander"
    status = await stub.GetTrainingStatus(pb.StatusRequest(run_id=run))
    assert (status.phase, status.seed) == (pb.PHASE_PENDING, resource["spec"]["seed"])
    other = pb.TrainingRequest(experiment_id="other", total_timesteps=5, model_output_path="a.zip")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.StartTrainingA2C(other)
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
