"""The service's other faces over loopback: health, reflection, metrics, reports, checks of simulators, forwarding."""

import asyncio
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import environment_pb2, tensor_pb2
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox.v1.environment_pb2_grpc import EnvironmentServiceServicer, add_EnvironmentServiceServicer_to_server
from aisandbox.v1.policy_trainer_pb2_grpc import (
    PolicyTrainerServiceStub,
)
from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub
from aisandbox_access import AccessSettings
from aisandbox_api import Server, Settings, create_server
from aisandbox_api.client_port import POLICY_TRAINER
from aisandbox_api.errors import AddressInUse, StartupError
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.launcher import ProcessLauncher
from aisandbox_api.method_handlers import handlers
from aisandbox_crds.spec import GrpcEnvironment
from aisandbox_crds.trainer_exit import ExitCode
from aisandbox_environment import POOL_METADATA
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.calls import describe
from aisandbox_model_store import RunStore
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from held_launcher import HeldLauncher

SCRIPTED_TRAINER = Path(__file__).parents[1] / "contract" / "scripted_trainer.py"


@asynccontextmanager
async def serving(
    tmp_path: Path, launcher: Any = None, **options: Any
) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    fields = options.pop("fields", {})
    settings = Settings(grpc_port=0, models_dir=tmp_path, stop_grace_seconds=5, **fields)
    backend = LocalBackend(settings, launcher or ProcessLauncher([sys.executable, str(SCRIPTED_TRAINER), "run"]))
    server = create_server(settings, backend=backend, **options)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield server, channel
    finally:
        await server.stop(grace=0)


async def test_health_is_serving_for_every_service_and_not_after_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "aisandbox.v1.PolicyTrainerService", "aisandbox.v1.EnvironmentService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(server.stop(grace=1))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stopping


async def _model_health(channel: grpc.aio.Channel, run: str) -> str:
    try:
        request = health_pb2.HealthCheckRequest(service=f"model/{run}")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_health_of_a_model_comes_from_the_policy_calls(tmp_path: Path) -> None:
    class Answering(Policies):
        async def can_act(self, run_id: str) -> bool | None:
            return {"good": True, "bad": False}.get(run_id)

    async def told(channel: grpc.aio.Channel) -> list[str]:
        return [await _model_health(channel, run) for run in ("good", "bad", "nobody")]

    async with serving(tmp_path, HeldLauncher(), policy_calls=Answering()) as (_, channel):
        assert await told(channel) == ["SERVING", "NOT_SERVING", "NOT_FOUND"]
    servicer, inference = health.aio.HealthServicer(), grpc.aio.server()
    await servicer.set("model/good", health_pb2.HealthCheckResponse.SERVING)
    await servicer.set("model/bad", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, inference)
    address = f"127.0.0.1:{inference.add_insecure_port('127.0.0.1:0')}"
    await inference.start()
    async with serving(tmp_path, HeldLauncher(), fields={"inference_address": address}) as (_, channel):
        assert await told(channel) == ["SERVING", "NOT_SERVING", "NOT_FOUND"]
        await inference.stop(0)
        assert await _model_health(channel, "good") == "NOT_SERVING"
    async with serving(tmp_path, HeldLauncher()) as (_, channel):
        assert await _model_health(channel, "good") == "NOT_FOUND"


async def test_reflection_lists_the_services_and_their_calls(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel):
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="aisandbox.v1.PolicyTrainerService"),
        ]
        listed, file = [answer async for answer in reflection.ServerReflectionInfo(iter(asked))]
        method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        v1: Any = channel.stream_stream(method)(iter([asked[0].SerializeToString()]))
        assert [answer async for answer in v1] == [listed.SerializeToString()]
    names = {service.name for service in listed.list_services_response.service}
    assert {f"aisandbox.v1.{name}Service" for name in ("PolicyTrainer", "SimulatorPool", "Environment")} <= names
    assert {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= names
    assert b"StartTrainingPPO" in file.file_descriptor_response.file_descriptor_proto[0]


async def test_port_in_use_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path / "a") as (first, _):
        settings = Settings(grpc_port=first.port, models_dir=tmp_path / "b")
        second = create_server(settings, backend=LocalBackend(settings, HeldLauncher()))
        with pytest.raises(AddressInUse, match=str(first.port)):
            await second.start()
    async with serving(tmp_path / "b"):
        pass  # its lock was let go


async def code_of(channel: grpc.aio.Channel, method: str) -> str:
    """The status of an empty request."""
    call: Any = channel.unary_unary(method)
    try:
        await call(b"", timeout=60, metadata=[(POOL_METADATA, "arena")])
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


CLIENT_CALLS = [
    *(f"aisandbox.v1.PolicyTrainerService/{name}" for name in ("ListTrainingRuns", "StartTrainingPPO", "Act")),
    "aisandbox.v1.SimulatorPoolService/Attach",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.health.v1.Health/Check",
]
REPORT = "/aisandbox.v1.TrainingProgressService/Report"
DESCRIBE = "/aisandbox.v1.EnvironmentService/Describe"
LIST_SIMULATORS = "/aisandbox.v1.SimulatorPoolService/ListSimulators"


async def test_trainers_port_serves_trainers_only_and_clients_report_no_progress(tmp_path: Path) -> None:
    fields = {"grpc_host": "0.0.0.0", "access": AccessSettings(insecure=True)}
    async with (
        serving(tmp_path, HeldLauncher(), fields=fields) as (server, clients),
        grpc.aio.insecure_channel(server.trainer_address) as trainers,
    ):
        assert server.trainer_address.startswith("127.0.0.1:")
        assert server.trainer_address != server.address
        for method in CLIENT_CALLS:
            assert await code_of(trainers, f"/{method}") == "UNIMPLEMENTED", method
        assert await code_of(trainers, REPORT) == "NOT_FOUND", "the run of the report"
        assert await code_of(trainers, DESCRIBE) == "UNAVAILABLE", "as a trainer of an earlier version calls"
        assert await code_of(trainers, LIST_SIMULATORS) == "UNAVAILABLE"
        assert await code_of(clients, REPORT) == "UNIMPLEMENTED"
        assert await code_of(clients, DESCRIBE) == "UNAVAILABLE", "a client may check a pool's simulator"


async def test_trainers_use_the_port_of_clients_on_kubernetes_without_the_setting(tmp_path: Path) -> None:
    async with serving(tmp_path, HeldLauncher(), fields={"backend": "kubernetes"}) as (server, channel):
        assert server.trainer_address == server.address
        assert await code_of(channel, REPORT) == "NOT_FOUND"
        service = "aisandbox.v1.TrainingProgressService"
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_trainers_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path / "a", HeldLauncher()) as (first, _):
        taken = {"trainer_address": f"127.0.0.1:{first.port}"}
        with pytest.raises(AddressInUse, match="TRAINER_ADDRESS"):
            async with serving(tmp_path / "b", HeldLauncher(), fields=taken):
                pass


async def test_metrics_count_runs_by_phase(tmp_path: Path) -> None:
    settings = Settings(grpc_port=0, models_dir=tmp_path, metrics_port=0, trainer_launcher="process")
    server = create_server(settings)  # its own backend is the one that is observed
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = PolicyTrainerServiceStub(channel)
            run = (await stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="e", total_timesteps=10**9))).run_id
            await stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
            async for status in stub.WatchTraining(pb.WatchTrainingRequest(run_id=run)):
                if status.phase == pb.PHASE_SUSPENDED:
                    break
        text = await asyncio.to_thread(read, f"http://127.0.0.1:{server.metrics_port}/metrics")
    finally:
        await server.stop(grace=0)
    assert 'aisandbox_runs{phase="Suspended"} 1.0' in text
    assert 'aisandbox_runs{phase="Pending"} 0.0' in text


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


async def test_report_needs_the_token_of_its_attempt(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    async with (
        serving(tmp_path, launcher, fields={"max_concurrent_runs": 2}) as (server, channel),
        grpc.aio.insecure_channel(server.trainer_address) as trainers,
    ):
        stub, progress = PolicyTrainerServiceStub(channel), TrainingProgressServiceStub(trainers)
        request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000)
        first = (await stub.StartTrainingPPO(request)).run_id
        own = (await launcher.trainer(1)).start
        await stub.StartTrainingPPO(request)
        others = (await launcher.trainer(2)).start

        async def report(token: str | None, run: str = first, **fields: Any) -> grpc.StatusCode:
            metadata = [("authorization", f"Bearer {token}")] if token else None
            message = progress_pb.ReportRequest(
                **{"run_id": run, "attempt": 1, "activity": progress_pb.TRAINER_ACTIVITY_TRAINING, **fields}
            )
            try:
                await progress.Report(message, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        assert await report(None) is grpc.StatusCode.UNAUTHENTICATED
        assert await report("wrong") is grpc.StatusCode.UNAUTHENTICATED
        assert await report(others.progress_token) is grpc.StatusCode.PERMISSION_DENIED
        assert await report(own.progress_token, run="nobody") is grpc.StatusCode.NOT_FOUND
        assert await report(own.progress_token, timesteps=-1) is grpc.StatusCode.INVALID_ARGUMENT
        assert await report(own.progress_token, fps=float("nan")) is grpc.StatusCode.INVALID_ARGUMENT
        assert await report(own.progress_token, attempt=2) is grpc.StatusCode.PERMISSION_DENIED
        assert await report(own.progress_token, attempt=0) is grpc.StatusCode.FAILED_PRECONDITION
        assert (await stub.GetTrainingStatus(pb.StatusRequest(run_id=first))).timesteps_done == 0
        assert await report(own.progress_token, timesteps=50, warning="slow") is grpc.StatusCode.OK
        status = await stub.GetTrainingStatus(pb.StatusRequest(run_id=first))
        assert (status.timesteps_done, status.warning, status.phase) == (50, "slow", pb.PHASE_RUNNING)
        told = (str(status), (tmp_path / "runs" / first / "trainingrun.json").read_text())
        assert not [text for text in told if str(own.progress_token) in text]


async def test_final_model_is_moved_for_the_trainer_of_its_run_only(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    fields = {"max_concurrent_runs": 2, "overwrite_outputs": "never"}
    async with (
        serving(tmp_path, launcher, fields=fields) as (server, channel),
        grpc.aio.insecure_channel(server.trainer_address) as trainers,
    ):
        stub, progress = PolicyTrainerServiceStub(channel), TrainingProgressServiceStub(trainers)
        request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000, model_output_path="team/walker")
        run = (await stub.StartTrainingPPO(request)).run_id
        own = (await launcher.trainer(1)).start
        await stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="e", total_timesteps=1000))
        others = (await launcher.trainer(2)).start

        async def publish(token: str | None, attempt: int = 1) -> str:
            metadata = [("authorization", f"Bearer {token}")]
            message = progress_pb.PublishOutputRequest(run_id=run, attempt=attempt)
            try:
                await progress.PublishOutput(message, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        RunStore(tmp_path).run(run).claim(1).prepare_output(b"model")
        assert await publish("wrong") == "UNAUTHENTICATED"
        assert await publish(others.progress_token) == "PERMISSION_DENIED"
        assert await publish(own.progress_token, attempt=0) == "FAILED_PRECONDITION"
        assert not (tmp_path / "team").exists()
        assert await publish(own.progress_token) == "OK"
        assert (tmp_path / "team" / "walker.zip").read_bytes() == b"model"
        await stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
        with pytest.raises(grpc.aio.AioRpcError, match=f"is the output of the run '{run}'") as caught:
            await stub.StartTrainingPPO(request)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_report_of_an_older_attempt_is_refused(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    async with (
        serving(tmp_path, launcher) as (server, channel),
        grpc.aio.insecure_channel(server.trainer_address) as trainers,
    ):
        stub, progress = PolicyTrainerServiceStub(channel), TrainingProgressServiceStub(trainers)
        request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000)
        run = (await stub.StartTrainingPPO(request)).run_id
        first = await launcher.trainer(1)
        first.code.set_result(ExitCode.RETRYABLE)
        second = await launcher.trainer(2)
        assert second.start.attempt == 2
        assert second.start.progress_token != first.start.progress_token
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await progress.Report(
                progress_pb.ReportRequest(run_id=run, attempt=1, timesteps=7),
                metadata=[("authorization", f"Bearer {first.start.progress_token}")],
            )
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_trainer_that_cannot_be_started_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    launcher.failures = 1
    async with serving(tmp_path, launcher) as (_, channel):
        stub = PolicyTrainerServiceStub(channel)
        await stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="e", total_timesteps=1000))
        assert (await launcher.trainer()).start.attempt == 2


class Simulator(EnvironmentServiceServicer):
    """Describes itself, as told."""

    def __init__(self, reply: environment_pb2.DescribeResponse | None) -> None:
        self.reply = reply

    async def Describe(self, request: Any, context: Any) -> environment_pb2.DescribeResponse:
        if self.reply is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such call")
            raise AssertionError
        return self.reply

    def Session(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError


BOX = tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2], low=[-1], high=[1]))
DISCRETE = tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=2))


def described(actions: tensor_pb2.Space, version: int = 1, capacity: int = 0) -> environment_pb2.DescribeResponse:
    spec = environment_pb2.EnvironmentSpec(observation_space=BOX, action_space=actions)
    return environment_pb2.DescribeResponse(protocol_version=version, spec=spec, capacity=capacity)


@pytest.fixture
async def simulate() -> AsyncIterator[Callable[[environment_pb2.DescribeResponse | None], Any]]:
    servers = []

    async def start(reply: environment_pb2.DescribeResponse | None) -> str:
        server = grpc.aio.server()
        add_EnvironmentServiceServicer_to_server(Simulator(reply), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


@pytest.mark.parametrize(
    ("reply", "method", "environments", "code", "says"),
    [
        (described(BOX), "StartTrainingDQN", 0, "INVALID_ARGUMENT", "DQN takes only discrete"),
        (described(DISCRETE, version=2), "StartTrainingPPO", 0, "FAILED_PRECONDITION", "version 2"),
        (described(DISCRETE, capacity=3), "StartTrainingPPO", 4, "INVALID_ARGUMENT", "capacity of 3"),
        (described(tensor_pb2.Space()), "StartTrainingPPO", 0, "FAILED_PRECONDITION", "space"),
        (None, "StartTrainingPPO", 0, "FAILED_PRECONDITION", "environment.grpc.address"),
    ],
)
async def test_start_against_a_simulator_that_does_not_fit_is_refused(
    tmp_path: Path, simulate: Any, reply: Any, method: str, environments: int, code: str, says: str
) -> None:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=await simulate(reply), environments=environments))
    request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000, environment=environment)
    async with serving(tmp_path, HeldLauncher()) as (_, channel):
        stub = PolicyTrainerServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await getattr(stub, method)(request)
        assert not (await stub.ListTrainingRuns(pb.ListTrainingRunsRequest())).runs
    assert refusal.value.code().name == code
    assert says in str(refusal.value.details())


@pytest.mark.parametrize("method", ["StartTrainingPPO", "StartTrainingDQN"])
async def test_start_against_a_simulator_that_fits_is_accepted(tmp_path: Path, simulate: Any, method: str) -> None:
    address = await simulate(described(DISCRETE, capacity=4))
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=address, environments=4))
    request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000, environment=environment)
    launcher = HeldLauncher()
    async with serving(tmp_path, launcher) as (_, channel):
        await getattr(PolicyTrainerServiceStub(channel), method)(request)
        assert (await launcher.trainer()).start.spec.environment == GrpcEnvironment(address, 4)


async def test_start_against_an_unreachable_simulator_is_accepted_within_its_time(tmp_path: Path) -> None:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address="127.0.0.1:1,no-such-host.invalid:5"))
    request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000, environment=environment)
    launcher = HeldLauncher()
    async with serving(tmp_path, launcher) as (_, channel):
        await PolicyTrainerServiceStub(channel).StartTrainingDQN(request, timeout=60)
        await launcher.trainer()


async def test_start_against_a_simulator_that_hangs_is_accepted_within_its_time(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = pb.Environment(grpc=pb.GrpcEnvironment(address=address))
        request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000, environment=environment)
        async with serving(tmp_path, launcher) as (_, channel):
            await PolicyTrainerServiceStub(channel).StartTrainingPPO(request, timeout=60)
            await launcher.trainer()


class Policies:
    """An inference-server of a kind."""

    def __init__(self) -> None:
        self.deadlines: list[float | None] = []
        self.metadata: list[dict[str, Any]] = []
        self.cancelled = asyncio.Event()

    async def Act(self, request: pb.ActRequest, context: Any) -> pb.ActResponse:
        self.deadlines.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        if request.run_id == "slow":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if request.run_id != "r":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such run: nobody", (("x-why-bin", b"\x01"),))
        return pb.ActResponse(action=list(request.observation), model="sha256:1")

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> AsyncIterator[pb.GetModelResponse]:
        for part in (b"a", b"b"):
            yield pb.GetModelResponse(part=part)

    async def ActStream(self, requests: Any, context: Any) -> AsyncIterator[pb.ActStreamResponse]:
        async for request in requests:
            yield pb.ActStreamResponse(response=pb.ActResponse(action=list(request.request.observation)))

    async def ActBatch(self, request: pb.ActBatchRequest, context: Any) -> pb.ActBatchResponse:
        return pb.ActBatchResponse(model=request.model)

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Any) -> pb.DescribeModelResponse:
        return pb.DescribeModelResponse(run_id=request.run_id)


@pytest.fixture(params=["forwarded", "inside"])
async def acting(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[PolicyTrainerServiceStub, Policies]]:
    policies = Policies()
    if request.param == "inside":
        async with serving(tmp_path, HeldLauncher(), policy_calls=policies) as (_, channel):
            yield PolicyTrainerServiceStub(channel), policies
        return
    inference = grpc.aio.server()
    names = ("Act", "ActBatch", "ActStream", "GetModel", "DescribeModel")
    methods = handlers(POLICY_TRAINER, policies)
    assert set(methods) == set(names)
    inference.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(POLICY_TRAINER.full_name, methods),))
    address = f"127.0.0.1:{inference.add_insecure_port('127.0.0.1:0')}"
    await inference.start()
    async with serving(tmp_path, HeldLauncher(), fields={"inference_address": address}) as (_, channel):
        yield PolicyTrainerServiceStub(channel), policies
    await inference.stop(0)


async def test_policy_calls_are_answered_with_what_they_asked(acting: tuple[Any, Policies]) -> None:
    stub, policies = acting
    answer = await stub.Act(pb.ActRequest(run_id="r", observation=[1, 2]), timeout=20, metadata=[("x-sim", "7")])
    assert (list(answer.action), answer.model) == ([1, 2], "sha256:1")
    assert policies.deadlines[0] is not None
    assert 15 < policies.deadlines[0] < 21
    assert policies.metadata[0]["x-sim"] == "7"
    parts = [part.part async for part in stub.GetModel(pb.GetModelRequest(run_id="r"))]
    assert parts == [b"a", b"b"]
    sent = [pb.ActStreamRequest(request=pb.ActRequest(observation=[i])) for i in range(3)]
    assert [list(reply.response.action) async for reply in stub.ActStream(iter(sent))] == [[0], [1], [2]]
    assert (await stub.ActBatch(pb.ActBatchRequest(model="best"))).model == "best"
    assert (await stub.DescribeModel(pb.DescribeModelRequest(run_id="r"))).run_id == "r"


async def test_policy_call_that_is_refused_keeps_its_status_and_details(acting: tuple[Any, Policies]) -> None:
    stub, _ = acting
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.Act(pb.ActRequest(run_id="nobody"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert refusal.value.details() == "no such run: nobody"
    assert dict(refusal.value.trailing_metadata())["x-why-bin"] == b"\x01"


async def test_policy_call_that_is_cancelled_is_cancelled_to_the_end(acting: tuple[Any, Policies]) -> None:
    stub, policies = acting
    call = stub.Act(pb.ActRequest(run_id="slow"))
    async with asyncio.timeout(60):
        while not policies.deadlines:  # noqa: ASYNC110 - a state of the other end
            await asyncio.sleep(0.01)
        call.cancel()
        await policies.cancelled.wait()


async def test_policy_call_without_its_inference_server_is_unavailable(tmp_path: Path) -> None:
    async with serving(tmp_path, HeldLauncher(), fields={"inference_address": "127.0.0.1:1"}) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await PolicyTrainerServiceStub(channel).Act(pb.ActRequest(run_id="r"), timeout=20)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:1" in str(refusal.value.details())


async def test_run_without_an_environment_is_trained_against_the_hosted_adapter(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    request = pb.TrainingRequest(experiment_id="e", total_timesteps=1000)
    async with serving(tmp_path, launcher, adapter_factory=FakeExternalEnvAdapter) as (_, channel):
        run = (await PolicyTrainerServiceStub(channel).StartTrainingPPO(request)).run_id
        first = (await launcher.trainer(1)).start.spec.environment
        assert isinstance(first, GrpcEnvironment)
        described = await asyncio.to_thread(describe, first.address)
        assert described.name == "FakeExternalEnvAdapter"
        status = await PolicyTrainerServiceStub(channel).GetTrainingStatus(pb.StatusRequest(run_id=run))
        assert not status.HasField("environment")

    async with serving(tmp_path, launcher, adapter_factory=FakeExternalEnvAdapter):
        second = (await launcher.trainer(2)).start.spec.environment
        assert isinstance(second, GrpcEnvironment)
        await asyncio.to_thread(describe, second.address)

    async with serving(tmp_path, launcher) as (_, channel):
        call = PolicyTrainerServiceStub(channel).WatchTraining(pb.WatchTrainingRequest(run_id=run))
        last = [status async for status in call][-1]
    assert (last.phase, last.failure.reason) == (pb.PHASE_FAILED, "AdapterMissing")
    assert "adapter_factory" in last.failure.message


async def test_dqn_against_a_hosted_adapter_with_box_actions_is_refused(tmp_path: Path) -> None:
    class Continuous(FakeExternalEnvAdapter):
        action_space = BOX

    async with serving(tmp_path, HeldLauncher(), adapter_factory=Continuous) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await PolicyTrainerServiceStub(channel).StartTrainingDQN(
                pb.TrainingRequest(experiment_id="e", total_timesteps=1000)
            )
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_adapter_factory_that_fails_fails_the_start_of_the_service(tmp_path: Path) -> None:
    def broken() -> Any:
        raise RuntimeError("no licence")

    settings = Settings(grpc_port=0, models_dir=tmp_path)
    server = create_server(settings, backend=LocalBackend(settings, HeldLauncher()), adapter_factory=broken)
    with pytest.raises(StartupError, match=r"adapter_factory.*no licence"):
        await server.start()
