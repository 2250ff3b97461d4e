"""The api-server's own part on a cluster: several replicas, tokens of pods, runs of others' making."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub
from aisandbox_crds.trainingrun import EXPERIMENT_ANNOTATION
from attached_simulators import PoolSession, describe, registration, serving, simulators_of
from cluster import ENDLESS, Cluster, manifest_of
from port_forward import PortForward
from waiting import wait_until

API, TRAINER = "aisandbox-api", "aisandbox-trainer"
TRAINERS_PORT = 50052
AUDIENCE = "aisandbox-progress"


@pytest.fixture
def trained(cluster: Cluster, run_name: Callable[[str], str]) -> str:
    """A run whose trainer reports."""
    name = run_name("reported")
    cluster.kubectl.apply(manifest_of(name, **ENDLESS))
    wait_until(lambda: cluster.status(name).get("progress", {}).get("timesteps", 0), seconds=240)
    return name


@pytest.fixture
def replicas(replica_addresses: dict[str, str]) -> Iterator[list[PolicyTrainerServiceStub]]:
    with ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(each)) for each in replica_addresses.values()]
        yield [PolicyTrainerServiceStub(channel) for channel in channels]


@pytest.fixture
def progress(cluster: Cluster) -> Iterator[TrainingProgressServiceStub]:
    """The service as trainers reach it."""
    with (
        PortForward(cluster.kubectl, f"service/{API}", TRAINERS_PORT) as forward,
        grpc.insecure_channel(forward.address) as channel,
    ):
        yield TrainingProgressServiceStub(channel)


def _status(service: PolicyTrainerServiceStub, run: str) -> pb.StatusResponse:
    return service.GetTrainingStatus(pb.StatusRequest(run_id=run), timeout=30, wait_for_ready=True)


def _token(cluster: Cluster, pod: str, account: str = TRAINER, audience: str = AUDIENCE) -> str:
    """As the kubelet gives it to the pod."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    chosen = (f"--audience={audience}",) if audience else ()
    return cluster.kubectl("create", "token", account, *chosen, *bound).strip()


def _report(
    progress: TrainingProgressServiceStub, run: str, token: str | None, attempt: int = 1
) -> tuple[grpc.StatusCode, str]:
    request = progress_pb.ReportRequest(
        run_id=run, attempt=attempt, timesteps=7, activity=progress_pb.TRAINER_ACTIVITY_TRAINING
    )
    metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
    try:
        progress.Report(request, metadata=metadata, timeout=30, wait_for_ready=True)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.mark.smoke
def test_two_replicas_that_are_asked_at_once_start_one_run(
    replicas: list[PolicyTrainerServiceStub], cluster: Cluster
) -> None:
    request = pb.TrainingRequest(
        experiment_id=f"twice-{secrets.token_hex(3)}", total_timesteps=256, request_id=secrets.token_hex(8)
    )

    def start(number: int) -> str:
        stub = replicas[number % 2]
        return str(stub.StartTrainingPPO(request, timeout=60, wait_for_ready=True).run_id)

    with ThreadPoolExecutor(8) as threads:
        (run,) = set(threads.map(start, range(8)))
    names = [each["metadata"]["name"] for each in cluster.runs()]
    assert [name for name in names if name.startswith(request.experiment_id)] == [run]
    assert len({_status(stub, run).seed for stub in replicas}) == 1
    other = pb.TrainingRequest(experiment_id="other", total_timesteps=9, request_id=request.request_id)
    for stub in replicas:
        with pytest.raises(grpc.RpcError) as refusal:
            stub.StartTrainingPPO(other, timeout=60)
        assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS
    cluster.kubectl("delete", "trainingrun", run, "--wait=false")


@pytest.mark.smoke
async def test_simulator_serves_the_sessions_of_every_replica(replica_addresses: dict[str, str]) -> None:
    """It is attached to one; the other lists it, describes its pool and passes sessions on to it."""
    pool = f"pool-{secrets.token_hex(3)}"
    own, other = (grpc.aio.insecure_channel(address) for address in replica_addresses.values())
    async with own, other, serving(own, registration(pool=pool, environments=2)):
        async with asyncio.timeout(60):  # the replicas look for each other every second
            while not await simulators_of(other, pool):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        for channel in (own, other):
            session = PoolSession(channel, pool)
            assert (await session.open(4, run_id="some-run")).open.environments == 2
            assert (await session.reset()).WhichOneof("reply") == "reset"
            for each in (own, other):
                assert (await describe(each, pool)).in_use == 2
                assert [found.run_id for found in await simulators_of(each, pool)] == ["some-run"]
            assert (await session.finish())[0] is grpc.StatusCode.OK


def test_run_started_at_one_replica_is_known_to_the_other_at_once(
    replicas: list[PolicyTrainerServiceStub], cluster: Cluster
) -> None:
    one, other = replicas
    request = pb.TrainingRequest(experiment_id=f"known-{secrets.token_hex(3)}", total_timesteps=256)
    run = one.StartTrainingPPO(request, timeout=60, wait_for_ready=True).run_id
    assert _status(other, run).run_id == run
    cluster.kubectl("delete", "trainingrun", run, "--wait=false")


def test_progress_is_the_same_at_every_replica(
    trained: str, replicas: list[PolicyTrainerServiceStub], cluster: Cluster
) -> None:
    begun = max(_status(stub, trained).timesteps_done for stub in replicas)
    for stub in replicas:  # the trainer reports to one of them, the other reads it in the status
        done = partial(lambda each: _status(each, trained).timesteps_done, stub)
        wait_until(done, lambda timesteps: timesteps > begun, seconds=60)


@pytest.mark.smoke
def test_report_with_a_token_that_is_not_the_trainer_s_is_refused(
    trained: str, cluster: Cluster, run_name: Callable[[str], str], progress: TrainingProgressServiceStub
) -> None:
    other = run_name("other")
    cluster.kubectl.apply(manifest_of(other, **ENDLESS))
    (others_pod,) = wait_until(lambda: cluster.pods(other), seconds=60)
    (own_pod,) = cluster.pods(trained)
    (api_pod, *_) = cluster.staying_pods(f"app.kubernetes.io/name={API}")
    own, others = own_pod.metadata.name, others_pod.metadata.name
    forged = f"{_token(cluster, own)[:-8]}AAAAAAAA"
    refused = {
        None: grpc.StatusCode.UNAUTHENTICATED,
        "": grpc.StatusCode.UNAUTHENTICATED,
        forged: grpc.StatusCode.UNAUTHENTICATED,
        _token(cluster, ""): grpc.StatusCode.UNAUTHENTICATED,  # of the account, of no pod
        _token(cluster, own, audience=""): grpc.StatusCode.UNAUTHENTICATED,  # for the API server
        _token(cluster, others): grpc.StatusCode.PERMISSION_DENIED,
        _token(cluster, api_pod, API): grpc.StatusCode.PERMISSION_DENIED,  # of a pod that trains nothing
    }
    for token, code in refused.items():
        assert _report(progress, trained, token)[0] is code
    status = cluster.status(trained)
    assert _report(progress, trained, _token(cluster, own), attempt=status["attempt"])[0] is grpc.StatusCode.OK
    code, words = _report(progress, trained, _token(cluster, own), attempt=0)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "attempt 0" in words
    assert _report(progress, "nobody", _token(cluster, own))[0] is grpc.StatusCode.NOT_FOUND


@pytest.mark.smoke
def test_run_of_kubectl_apply_is_listed_watched_and_cancelled(
    cluster: Cluster, run_name: Callable[[str], str], service: PolicyTrainerServiceStub
) -> None:
    name = run_name("applied")
    manifest = manifest_of(name, **ENDLESS)
    manifest["metadata"]["annotations"] = {EXPERIMENT_ANNOTATION: f"experiment-of-{name}"}
    cluster.kubectl.apply(manifest)
    assert _status(service, name).run_id == name
    listing = pb.ListTrainingRunsRequest(experiment_id=f"experiment-of-{name}")
    assert [run.run_id for run in service.ListTrainingRuns(listing, timeout=30).runs] == [name]
    watch = service.WatchTraining(pb.WatchTrainingRequest(run_id=name), timeout=240)
    for status in watch:
        if status.timesteps_done > 0 and not cluster.run(name)["spec"]["cancel"]:  # type: ignore[index]
            service.CancelTraining(pb.CancelTrainingRequest(run_id=name), timeout=30)
    assert (status.phase, status.is_done) == (pb.PHASE_CANCELLED, True)
    assert cluster.status(name)["phase"] == "Cancelled"


def test_deleted_run_is_unknown_and_its_watch_ends(
    trained: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    watch = service.WatchTraining(pb.WatchTrainingRequest(run_id=trained), timeout=120)
    next(watch)
    cluster.kubectl("delete", "trainingrun", trained, "--wait=false")
    with pytest.raises(grpc.RpcError) as ended:
        for _ in watch:
            pass
    assert ended.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as unknown:
        _status(service, trained)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_start_that_asks_for_too_much_of_the_schema_is_refused_by_name(service: PolicyTrainerServiceStub) -> None:
    request = pb.TrainingRequest(experiment_id="bad", total_timesteps=10**15)
    with pytest.raises(grpc.RpcError) as refusal:
        service.StartTrainingPPO(request, timeout=30)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "total_timesteps" in (refusal.value.details() or "")
