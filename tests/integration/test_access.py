"""Who may call what, at every server: every method with every kind of credential that must not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_access import ACT_METHOD, ATTACH_METHOD, METHODS, OWNER_ANNOTATION, STATUS_METHOD, AccessSettings
from aisandbox_api import Server, Settings, create_server
from aisandbox_api.local import LocalBackend
from aisandbox_api.settings import OwnerQuotas
from aisandbox_api.trainer_auth import POOL_METHODS, SESSION_METHOD
from aisandbox_api.web_socket import PROTOCOL
from aisandbox_crds import ExitCode, TrainerStart
from aisandbox_environment import POOL_METADATA, RUN_METADATA
from aisandbox_inference import Settings as InferenceSettings
from aisandbox_inference import create_server as create_inference_server
from aisandbox_model_store import RunStore
from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_process.local_streams import LocalStream
from attached_simulators import POOL, Metadata, PoolSession, registration, simulators_of
from attached_simulators import serving as simulating
from credentials import SERVICES, call, denials, metadata_of, methods_of, token_file
from grpc_health.v1 import health_pb2, health_pb2_grpc
from held_launcher import HeldLauncher
from onnx_policies import LinearPolicy
from pending_launcher import NeverReady
from structlog.testing import capture_logs

Code = grpc.StatusCode
API = tuple(each for each in SERVICES if each.name != "TrainingProgressService")
INFERENCE = tuple(each for each in SERVICES if each.name in ("PolicyTrainerService", "Health", "ServerReflection"))
RUNS = "/aisandbox.v1.PolicyTrainerService/"
ACT = f"{RUNS}Act"
POLICY_CALLS = ("Act", "ActBatch", "ActStream", "GetModel", "DescribeModel")
SOCKET = "the Unix socket of trainers"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SERVED = (*POLICY_CALLS, "Check", "List", "ServerReflectionInfo")


class Policies:
    """Answers whoever gets here."""

    async def Act(self, request: pb.ActRequest, context: Any) -> pb.ActResponse:
        return pb.ActResponse(action=[1.0])

    async def ActBatch(self, request: pb.ActBatchRequest, context: Any) -> pb.ActBatchResponse:
        return pb.ActBatchResponse()

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Any) -> pb.DescribeModelResponse:
        return pb.DescribeModelResponse()

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> AsyncIterator[pb.GetModelResponse]:
        yield pb.GetModelResponse()

    async def ActStream(self, requests: Any, context: Any) -> AsyncIterator[pb.ActStreamResponse]:
        async for _ in requests:
            yield pb.ActStreamResponse()

    async def can_act(self, run_id: str) -> bool | None:
        return True


@asynccontextmanager
async def serving(
    folder: Path, launcher: Any = None, **fields: Any
) -> AsyncIterator[tuple[Server, grpc.aio.Channel, str]]:
    """A service that asks its callers who they are, a channel to it, and a run of alice."""
    access = AccessSettings(
        auth="token",
        token_file=token_file(folder),
        max_streams_per_peer=fields.pop("max_streams", 1000),
        max_connections=fields.pop("max_connections", 0),
        max_connections_per_peer=fields.pop("max_connections_per_peer", 0),
    )
    settings = Settings(grpc_port=0, http_port=0, models_dir=folder / "models", access=access, **fields)
    backend = LocalBackend(settings, launcher or NeverReady())
    policies = Policies() if settings.inference_address is None else None
    server = create_server(settings, backend=backend, policy_calls=policies)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield server, channel, await start(channel, "alice")
    finally:
        await server.stop(grace=0)


def stub(channel: grpc.aio.Channel) -> Any:
    return policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)


async def start(channel: grpc.aio.Channel, who: str, **fields: Any) -> str:
    request = pb.TrainingRequest(experiment_id="walk", total_timesteps=100, **fields)
    started = await stub(channel).StartTrainingPPO(request, metadata=metadata_of(who))
    return str(started.run_id)


async def refused_by(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def deny_everywhere(channel: grpc.aio.Channel, methods: Mapping[str, Any], run: str) -> int:
    """Calls every method with every credential that must not do; returns the number of calls."""
    number = 0
    for method in methods:
        for denial in denials(method):
            with capture_logs() as logs:
                code, details = await call(channel, method, run, denial.who, sends=denial.kind == "foreign")
            assert code is denial.code, (method, denial, details)
            if denial.kind in ("insufficient", "foreign"):
                permission = METHODS[method].permission
                assert permission is not None
                assert f"lacks the permission {permission.value!r}" in details, (method, denial)
            lines = [line for line in logs if line["event"] == "audit"]
            assert [(line["method"], line["result"]) for line in lines] == [(method[1:], code.name)], (method, denial)
            assert lines[0]["peer"], (method, denial)
            number += 1
    return number


async def test_api_server_refuses_and_records_every_method(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, channel, run):
        assert await deny_everywhere(channel, methods_of(API), run) == 94
        async with grpc.aio.insecure_channel(server.trainer_address) as trainers:
            with capture_logs() as logs:
                for name in ("Report", "PublishOutput"):
                    method = f"/aisandbox.v1.TrainingProgressService/{name}"
                    for who in (None, "nobody", "old", "alice", "root"):
                        assert (await call(trainers, method, run, who))[0] is Code.UNAUTHENTICATED
            assert [line["result"] for line in logs if line["event"] == "audit"] == ["UNAUTHENTICATED"] * 10


def as_trainer(run: str, token: str | None, pool: str = POOL) -> Metadata:
    """The metadata of a trainer's call for a pool."""
    credential = () if token is None else (("authorization", f"Bearer {token}"),)
    return (*credential, (RUN_METADATA, run), (POOL_METADATA, pool))


async def start_on(channel: grpc.aio.Channel, launcher: HeldLauncher, pool: str) -> TrainerStart:
    """How the trainer of a new run of alice was started; ``pool``: its pool, if it has one."""
    number = len(launcher.trainers) + 1
    environment = pb.Environment(pool=pb.PoolEnvironment(name=pool)) if pool else None
    await start(channel, "alice", environment=environment)
    return (await launcher.trainer(number)).start


async def refuse_trainers(channel: grpc.aio.Channel, own: TrainerStart, others: Sequence[TrainerStart]) -> int:
    """Calls for pools with everything that must not do, at the port of trainers and at their socket.

    Returns the number of calls.
    """
    run, token = own.run_id, own.progress_token
    denied: list[tuple[Metadata, grpc.StatusCode, str]] = [
        ((), Code.UNAVAILABLE, "one of an earlier version does not: suspend and resume the run"),
        (metadata_of("root"), Code.UNAUTHENTICATED, "a trainer names its run"),
        (as_trainer(run, None), Code.UNAUTHENTICATED, "is missing"),
        (as_trainer(run, "wrong"), Code.UNAUTHENTICATED, "the token is not valid"),
        (as_trainer(run, "TOKEN-alice"), Code.UNAUTHENTICATED, "the token is not valid"),
        (as_trainer(run, token, pool="other"), Code.PERMISSION_DENIED, "trains on pool 'arena', not on 'other'"),
        (as_trainer(run, token, pool=""), Code.PERMISSION_DENIED, "trains on pool 'arena', not on ''"),
        *((as_trainer(run, each.progress_token), Code.PERMISSION_DENIED, "is not of run") for each in others),
        (as_trainer(others[0].run_id, others[0].progress_token), Code.PERMISSION_DENIED, "trains on no pool"),
    ]
    for method in (*POOL_METHODS, SOCKET):
        for metadata, expected, words in denied:
            with capture_logs() as logs:
                if method == SOCKET:
                    code, details = await asyncio.to_thread(open_by_socket, own, metadata)
                else:
                    code, details = await call(channel, method, run, metadata=metadata)
            assert (code, words in details) == (expected, True), (method, metadata, details)
            lines = [(line["method"], line["result"]) for line in logs if line["event"] == "audit"]
            recorded = code.name if metadata else "UNAUTHENTICATED"
            assert lines == [((SESSION_METHOD if method == SOCKET else method)[1:], recorded)], (method, metadata)
    return (len(POOL_METHODS) + 1) * len(denied)


def open_by_socket(trainer: TrainerStart, metadata: Metadata) -> tuple[grpc.StatusCode, str]:
    """The status of a session over the trainer's Unix socket that is refused."""
    assert trainer.session_socket is not None
    stream = LocalStream(trainer.session_socket, metadata)
    try:
        stream.receive()
    except StreamEnded as end:
        return end.code, end.details
    finally:
        stream.close()
    raise AssertionError("it was not refused")


async def test_trainers_port_asks_for_the_token_of_a_run_and_gives_it_its_pool_only(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    async with (
        serving(tmp_path, launcher, max_concurrent_runs=4) as (server, channel, _),
        grpc.aio.insecure_channel(server.trainer_address) as trainers,
    ):
        await launcher.trainer(1)
        bare, other, own = [await start_on(channel, launcher, pool) for pool in ("", "other", POOL)]
        assert await refuse_trainers(trainers, own, [bare, other]) == 40
        registrations = registration("one"), registration("two", pool="other")
        async with simulating(channel, *registrations, metadata=metadata_of("alice")):
            metadata = as_trainer(own.run_id, own.progress_token)
            session = PoolSession(trainers, "", metadata)
            assert (await session.open(run_id="another")).open.environments == 1
            (found,) = await simulators_of(trainers, POOL, metadata)
            assert (found.instance, found.run_id) == ("one", own.run_id), "the run whose token it is"
            for who, sees in (("alice", True), ("root", True), ("bob", False), ("vera", False)):
                (found,) = await simulators_of(channel, POOL, metadata_of(who))
                assert (found.in_session, found.run_id) == (True, own.run_id if sees else ""), who
            for pool in ("", "other"):
                code, details = await refused_by(simulators_of(trainers, pool, metadata))
                assert (code, "pool: must be that of" in details) == (Code.INVALID_ARGUMENT, True)
            assert (await session.finish())[0] is Code.OK
        launcher.trainers[-1].code.set_result(ExitCode.PERMANENT)
        await until_over(channel, own.run_id)
        code, _ = await PoolSession(trainers, "", metadata).status()
        assert code is Code.UNAUTHENTICATED, "its attempt is over"
        assert (await asyncio.to_thread(open_by_socket, own, metadata))[0] is Code.UNAUTHENTICATED


async def until_over(channel: grpc.aio.Channel, run: str) -> None:
    """Until the run is done."""
    request = pb.WatchTrainingRequest(run_id=run)
    async for _ in stub(channel).WatchTraining(request, metadata=metadata_of("alice")):
        pass


async def test_trainers_without_a_port_of_their_own_use_pools_at_that_of_clients(tmp_path: Path) -> None:
    launcher = HeldLauncher()
    fields = {"backend": "kubernetes", "max_concurrent_runs": 2}
    async with serving(tmp_path, launcher, **fields) as (server, channel, _):
        assert server.trainer_address == server.address
        await launcher.trainer(1)
        own = await start_on(channel, launcher, POOL)
        metadata = as_trainer(own.run_id, own.progress_token)
        async with simulating(channel, registration(), metadata=metadata_of("alice")):
            session = PoolSession(channel, "", metadata)
            await session.open()
            (found,) = await simulators_of(channel, POOL, metadata)
            assert found.run_id == own.run_id
            assert (await session.finish())[0] is Code.OK
        token = (("authorization", f"Bearer {own.progress_token}"), (POOL_METADATA, POOL))
        for method in POOL_METHODS:
            assert (await call(channel, method, "", metadata=token))[0] is Code.UNAUTHENTICATED, "it names no run"
            code, _ = await call(channel, method, "", metadata=as_trainer(own.run_id, "TOKEN-root"))
            assert code is Code.UNAUTHENTICATED, "who names a run is asked for the token of its trainer"


async def test_api_server_admits_who_has_the_permission(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, run):
        for method in methods_of(API):
            if method.endswith(("Attach", "WatchTraining", "Health/Watch")) or "EnvironmentService" in method:
                continue  # they last
            code, details = await call(channel, method, run, "alice")
            assert code not in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED), (method, details)
        code, _ = await call(channel, f"{RUNS}CancelTraining", run, "root")
        assert code is Code.OK


async def test_unknown_method_is_refused_before_it_is_looked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _run):
        method: Any = channel.unary_unary("/aisandbox.v1.PolicyTrainerService/Nothing")
        assert (await refused_by(method(b"")))[0] is Code.UNAUTHENTICATED
        assert (await refused_by(method(b"", metadata=metadata_of("root"))))[0] is Code.PERMISSION_DENIED


def test_every_method_has_a_rule() -> None:
    assert set(methods_of()) | {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} == METHODS.keys()


@pytest.mark.parametrize("direct", ["on", "off"])
async def test_inference_server_refuses_and_records_every_method(
    tmp_path: Path, direct: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_DIRECT", direct)
    record = tmp_path / "runs" / "walk" / "trainingrun.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"metadata": {"annotations": {OWNER_ANNOTATION: "alice"}}}))
    access = AccessSettings(auth="token", token_file=token_file(tmp_path), max_streams_per_peer=3)
    server = create_inference_server(InferenceSettings(models_dir=tmp_path, grpc_port=0, access=access))
    server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            methods = {method: each for method, each in methods_of(INFERENCE).items() if each.name in SERVED}
            assert await deny_everywhere(channel, methods, "walk") == 29
            # A run without a record, as on a cluster, is an administrator's.
            assert (await call(channel, ACT, "other", "alice"))[0] is Code.PERMISSION_DENIED
            for who, run in (("alice", "walk"), ("root", "other")):
                for name in POLICY_CALLS:
                    code, details = await call(channel, f"{RUNS}{name}", run, who)
                    assert code in (Code.FAILED_PRECONDITION, Code.NOT_FOUND, Code.OK), (name, who, details)
            await _check_streams_of_an_administrator_do_not_count(channel, limit=3)
            health = health_pb2_grpc.HealthStub(channel)
            assert (
                await health.Check(health_pb2.HealthCheckRequest())
            ).status == health_pb2.HealthCheckResponse.SERVING
            code, _ = await refused_by(health.Check(health_pb2.HealthCheckRequest(service="model/walk")))
            assert code is Code.UNAUTHENTICATED
    finally:
        server.stop(0)


async def test_streams_of_a_peer_count_also_where_nobody_is_asked(tmp_path: Path) -> None:
    access = AccessSettings(max_streams_per_peer=1)
    server = create_inference_server(InferenceSettings(models_dir=tmp_path, grpc_port=0, access=access))
    server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            first, second = (stub(channel).ActStream(timeout=60) for _ in range(2))
            done, _ = await asyncio.wait(
                [asyncio.ensure_future(each.code()) for each in (first, second)], return_when=asyncio.FIRST_COMPLETED
            )
            assert [each.result() for each in done] == [Code.RESOURCE_EXHAUSTED]
            code, details = await refused_by(stub(channel).GetModel(pb.GetModelRequest(run_id="r")).read())
            assert (code, details.partition(":")[0]) == (Code.RESOURCE_EXHAUSTED, "MAX_STREAMS_PER_PEER")
            first.cancel()
            second.cancel()
    finally:
        await asyncio.to_thread(server.stop, 0)


async def _check_streams_of_an_administrator_do_not_count(channel: grpc.aio.Channel, limit: int) -> None:
    async def opened(who: str) -> Any:
        stream = stub(channel).ActStream(metadata=metadata_of(who), timeout=60)
        with contextlib.suppress(grpc.aio.AioRpcError):  # its status is looked at below
            await stream.wait_for_connection()
        return stream

    of_root = [await opened("root") for _ in range(limit + 1)]
    of_alice = [await opened("alice") for _ in range(limit + 1)]
    codes = [asyncio.ensure_future(stream.code()) for stream in of_alice]
    done, _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
    assert {each.result() for each in done} == {Code.RESOURCE_EXHAUSTED}
    assert not any(stream.done() for stream in of_root)
    for stream in (*of_root, *of_alice):
        stream.cancel()
    await asyncio.gather(*codes)


async def test_health_of_a_model_is_asked_for_with_the_clients_token(tmp_path: Path) -> None:
    access = AccessSettings(auth="token", token_file=token_file(tmp_path))
    models = tmp_path / "models"
    models.mkdir()
    inference = create_inference_server(InferenceSettings(models_dir=models, grpc_port=0, access=access))
    inference.start()
    try:
        async with serving(tmp_path, inference_address=inference.address) as (_, channel, run):
            writer = RunStore(models).run(run).claim(1)
            writer.point("latest", writer.publish_model(100, LinearPolicy().files()))
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=f"model/{run}")
            answer = await health.Check(request, metadata=metadata_of("alice"), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with capture_logs() as logs:
                assert (await refused_by(health.Check(request, metadata=metadata_of("nobody"))))[0] is (
                    Code.UNAUTHENTICATED
                )
            lines = [(line["run"], line["result"]) for line in logs if line["event"] == "audit"]
            assert lines == [(run, "UNAUTHENTICATED")]
    finally:
        await asyncio.to_thread(inference.stop, 0)


async def test_http_refuses_and_records_every_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _, run), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.http_port}/v1"
        paths = {
            STATUS_METHOD: ("GET", f"/runs/{run}"),
            ACT_METHOD: ("POST", f"/runs/{run}/act"),
            ATTACH_METHOD: ("GET", "/simulators/arena"),
        }
        number = 0
        for method, (verb, path) in paths.items():
            for denial in denials(method):
                if method == ATTACH_METHOD and denial.kind == "foreign":
                    continue  # the pool is refused when the simulator registers, below
                with capture_logs() as logs:
                    answer = await session.request(verb, url + path, headers=dict(metadata_of(denial.who)), json={})
                assert answer.status == {Code.UNAUTHENTICATED: 401, Code.PERMISSION_DENIED: 403}[denial.code], denial
                lines = [line for line in logs if line["event"] == "audit"]
                assert [line["result"] for line in lines] == [denial.code.name], (method, denial)
                number += 1
        assert number == 14
        async with session.ws_connect(
            f"{url}/simulators/arena", protocols=(PROTOCOL, "bearer.aisandbox.TOKEN-bob")
        ) as socket:
            await socket.send_bytes(registration(pool="").SerializeToString())
            closed = await socket.receive(60)
            assert (socket.close_code, closed.extra) == (4007, "'bob' lacks the permission 'simulate' for pool 'arena'")
        headers = dict(metadata_of("alice"))
        assert (await session.get(f"{url}/runs/{run}", headers=headers)).status == 200
        assert (await session.post(f"{url}/runs/{run}/act", headers=headers, json={"observation": [1]})).status == 200


async def test_runs_are_within_the_reach_of_their_owner(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, run):
        other = await start(channel, "bob")

        async def seen_by(who: str) -> dict[str, str]:
            page = await stub(channel).ListTrainingRuns(pb.ListTrainingRunsRequest(), metadata=metadata_of(who))
            return {each.run_id: each.owner for each in page.runs}

        assert await seen_by("alice") == {run: "alice"}
        assert await seen_by("bob") == {other: "bob"}
        assert await seen_by("vera") == {}
        assert await seen_by("root") == {run: "alice", other: "bob"}


async def test_caller_is_told_who_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _run):
        told = {
            who: await stub(channel).WhoAmI(pb.WhoAmIRequest(), metadata=metadata_of(who))
            for who in ("alice", "bob", "vera", "root")
        }
    assert all(each.authentication_enabled for each in told.values())
    every = ["view", "train", "act", "model", "simulate", "administer"]
    assert [(each.name, list(each.roles), list(each.rights)) for each in told.values()] == [
        ("alice", ["simulator", "trainer"], every[:5]),
        ("bob", ["simulator", "trainer"], every[:5]),
        ("vera", ["viewer"], ["view"]),
        ("root", ["admin"], every),
    ]
    assert {who: list(each.pools) for who, each in told.items() if each.pools} == {"bob": ["other"]}


async def test_request_id_is_its_owners(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _run):
        first = await start(channel, "alice", request_id="one")
        assert await start(channel, "alice", request_id="one") == first
        assert await start(channel, "bob", request_id="one") != first


async def test_output_of_another_owner_is_not_written_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _run):
        first = await start(channel, "alice", model_output_path="policy.zip")
        await stub(channel).CancelTraining(pb.CancelTrainingRequest(run_id=first), metadata=metadata_of("alice"))
        code, details = await refused_by(start(channel, "bob", model_output_path="policy.zip"))
        assert code is Code.FAILED_PRECONDITION
        assert "'policy.zip' is the output of a run of another owner" in details
        assert await start(channel, "alice", model_output_path="policy.zip") != first


async def test_what_a_run_of_another_owner_has_learned_is_not_taken(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, _run):
        first = await start(channel, "alice", model_output_path="policy.zip")
        for source in (
            pb.StartFrom(run=first, model="best"),
            pb.StartFrom(run=first, checkpoint="latest"),
            pb.StartFrom(zip="./policy.zip"),
            pb.StartFrom(zip="Policy.ZIP"),
        ):
            assert (await refused_by(start(channel, "bob", start_from=source)))[0] is Code.PERMISSION_DENIED
            code, details = await refused_by(start(channel, "alice", start_from=source))
            assert code is Code.INVALID_ARGUMENT, "it has not learned anything yet"
            assert "start_from." in details
        written = pb.Demonstrations(file="./policy.zip")
        assert (await refused_by(start(channel, "bob", demonstrations=written)))[0] is Code.PERMISSION_DENIED
        assert (await refused_by(start(channel, "alice", demonstrations=written)))[0] is Code.INVALID_ARGUMENT


async def test_every_change_is_recorded(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel, run):
        with capture_logs() as logs:
            request = pb.SuspendTrainingRequest(run_id=run)
            await stub(channel).SuspendTraining(request, metadata=metadata_of("alice"))
            await refused_by(stub(channel).StartTraining(pb.TrainingRequest(), metadata=metadata_of("alice")))
            await stub(channel).GetTrainingStatus(pb.StatusRequest(run_id=run), metadata=metadata_of("alice"))
        lines = [line for line in logs if line["event"] == "audit"]
        assert [(line["who"], line["method"].rpartition("/")[2], line["result"]) for line in lines] == [
            ("alice", "SuspendTraining", "OK"),
            ("alice", "StartTraining", "INVALID_ARGUMENT"),
        ]
        assert lines[0]["run"] == run


async def test_owner_at_a_limit_is_told_which(tmp_path: Path) -> None:
    quotas = OwnerQuotas(max_pending_runs_per_owner=2)
    async with serving(tmp_path, quotas=quotas, max_concurrent_runs=1) as (_, channel, run):
        await start(channel, "alice", request_id="one")
        await start(channel, "alice", request_id="two")
        code, details = await refused_by(start(channel, "alice"))
        assert code is Code.RESOURCE_EXHAUSTED
        assert details.startswith("'alice' has 2 pending runs, and the limit MAX_PENDING_RUNS_PER_OWNER is 2")
        assert await start(channel, "alice", request_id="two") != run, "a retry is no start"
        await start(channel, "bob")


async def test_peer_with_many_streams_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, max_streams=3) as (server, channel, run):
        watches = []
        for _ in range(3):
            watch = stub(channel).WatchTraining(pb.WatchTrainingRequest(run_id=run), metadata=metadata_of("alice"))
            assert (await watch.read()).run_id == run
            watches.append(watch)
        request = pb.WatchTrainingRequest(run_id=run)
        code, details = await refused_by(stub(channel).WatchTraining(request, metadata=metadata_of("alice")).read())
        assert code is Code.RESOURCE_EXHAUSTED
        assert details.startswith("MAX_STREAMS_PER_PEER: 127.0.0.1 has 3 streams open at this server already")
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.http_port}/v1/simulators/arena"
            async with session.ws_connect(url, headers=dict(metadata_of("sim"))) as socket:
                await socket.receive(60)
                assert socket.close_code == 4008, "a WebSocket is a stream too"
        for watch in watches:
            watch.cancel()


async def test_idle_connections_do_not_take_the_files_of_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connections=8, max_connections_per_peer=8) as (server, channel, _):
        async with asyncio.timeout(60):
            opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(12)]
            first = await asyncio.gather(*(reader.read(1) for reader, _ in opened))
        assert sum(bool(each) for each in first) == 7, "the channel has one of the 8; the others are closed at once"
        await start(channel, "alice")
        for _, writer in opened:
            writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there this is done")
async def test_idle_connections_of_one_address_leave_places_for_others(tmp_path: Path) -> None:
    async with serving(tmp_path, max_connections=8) as (server, _, _run), asyncio.timeout(120):
        opened = [
            await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0)) for _ in range(12)
        ]
        for _, writer in opened:
            writer.write(PREFACE)  # or they would be closed for their silence
        ends = [asyncio.ensure_future(_end_of(reader)) for reader, _ in opened]
        while sum(end.done() for end in ends) < 6:
            await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)
        async with grpc.aio.insecure_channel(server.address) as channel:
            await channel.channel_ready()  # at the second try, if gRPC has not yet noticed that one was ended
            await start(channel, "alice")
        assert sum(end.done() for end in ends) == 6, "it keeps what is its share"
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*ends)


async def _end_of(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def test_run_of_a_start_call_gets_the_default_deadline(tmp_path: Path) -> None:
    async with serving(tmp_path, default_deadline_seconds=3600) as (_, _channel, run):
        record = json.loads((tmp_path / "models" / "runs" / run / "trainingrun.json").read_text())
        assert record["spec"]["activeDeadlineSeconds"] == 3600
