"""The inference-server over loopback: every call, its refusals, and what a client sees while models change."""

from __future__ import annotations

import asyncio
import hashlib
import math
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc, tensor_pb2
from aisandbox_inference import AddressInUse, Server, Settings, create_server
from aisandbox_model_store import RunStore
from aisandbox_wire.tensors import decode_tensor, encode_tensor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from onnx_policies import LinearPolicy, box, dictionary, discrete, image, multi_discrete, publish
from waiting import wait_until

if TYPE_CHECKING:
    from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceAsyncStub as Stub
OBSERVATION = [0.25, -0.5, 0.75, 1.0]
POLICY = LinearPolicy()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path, grpc_port=0, max_batch_observations=100, stop_grace_seconds=5)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    server = create_server(settings)
    server.start()
    yield server
    await asyncio.to_thread(server.stop, 0)


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Stub:
    return policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)


def expected(policy: LinearPolicy, observation: list[float]) -> list[float]:
    return policy.act([np.array([observation], np.float32)]).ravel().tolist()


async def code_and_message(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_act_answers_and_says_which_model(stub: Stub, tmp_path: Path) -> None:
    published = publish(tmp_path, POLICY)
    response = await stub.Act(pb.ActRequest(run_id="r", observation=OBSERVATION))
    assert list(response.action) == expected(POLICY, OBSERVATION)
    assert (response.model, response.model_timesteps) == (published.digest, 100)


async def test_act_takes_every_selector(stub: Stub, tmp_path: Path) -> None:
    digests = {step: publish(tmp_path, LinearPolicy(seed=step), step=step).digest for step in (100, 200)}
    writer = RunStore(tmp_path).run("r").claim(2)
    writer.point("best", RunStore(tmp_path).run("r").model("step:100"))
    for selector, step in {"": 200, "latest": 200, "best": 100, "step:100": 100, digests[100]: 100}.items():
        response = await stub.Act(pb.ActRequest(run_id="r", observation=OBSERVATION, model=selector))
        assert response.model_timesteps == step
    code, message = await code_and_message(stub.Act(pb.ActRequest(run_id="r", observation=OBSERVATION, model="final")))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "the final model is published when the run succeeds" in message


@pytest.mark.parametrize(
    ("action", "shape"), [(discrete(3), 1), (box(2, 2), 4), (multi_discrete(2, 3), 2)], ids=["discrete", "box", "multi"]
)
async def test_act_gives_one_number_a_dimension(
    stub: Stub, tmp_path: Path, action: tensor_pb2.Space, shape: int
) -> None:
    policy = LinearPolicy(action=action)
    publish(tmp_path, policy)
    response = await stub.Act(pb.ActRequest(run_id="r", observation=OBSERVATION))
    assert len(response.action) == shape
    np.testing.assert_allclose(response.action, expected(policy, OBSERVATION), atol=1e-5)


async def test_act_takes_the_leaves_of_a_dict_one_after_another(stub: Stub, tmp_path: Path) -> None:
    policy = LinearPolicy(dictionary(a=box(2), b=image(1, 2, 1)), box(1, low=-1e6, high=1e6))
    publish(tmp_path, policy)
    response = await stub.Act(pb.ActRequest(run_id="r", observation=[0.5, -0.5, 7, 255]))
    leaves: list[np.ndarray[Any, Any]] = [np.array([[0.5, -0.5]], np.float32), np.array([[[[7], [255]]]], np.uint8)]
    assert response.action == pytest.approx(policy.act(leaves).ravel().tolist(), rel=1e-5)


async def test_act_stochastic_samples(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, LinearPolicy(bias=[0.0, 0.0]))
    request = pb.ActRequest(run_id="r", observation=OBSERVATION, stochastic=True)
    actions = [(await stub.Act(request)).action[0] for _ in range(100)]
    assert 20 < sum(actions) < 80
    request.stochastic = False
    assert {(await stub.Act(request)).action[0] for _ in range(5)} == {0.0}


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (pb.ActRequest(observation=OBSERVATION), grpc.StatusCode.INVALID_ARGUMENT, "run_id: is required"),
        (pb.ActRequest(run_id="../r"), grpc.StatusCode.NOT_FOUND, "run '../r' does not exist"),
        (pb.ActRequest(run_id="other"), grpc.StatusCode.NOT_FOUND, "run 'other' does not exist"),
        (pb.ActRequest(run_id="empty"), grpc.StatusCode.FAILED_PRECONDITION, "no model is published yet"),
        (pb.ActRequest(run_id="r", model="newest"), grpc.StatusCode.INVALID_ARGUMENT, "model: must be empty, latest"),
        (pb.ActRequest(run_id="r", model="step:7"), grpc.StatusCode.FAILED_PRECONDITION, "models of the steps 100"),
        (pb.ActRequest(run_id="r"), grpc.StatusCode.INVALID_ARGUMENT, "observation: has 0 numbers"),
        (pb.ActRequest(run_id="r", observation=[0, 0, 0]), grpc.StatusCode.INVALID_ARGUMENT, "observation: has 3"),
        (
            pb.ActRequest(run_id="r", observation=[0, 0, 0, math.nan]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "observation: number 3 is nan",
        ),
        (
            pb.ActRequest(run_id="r", observation=[0, math.inf, 0, 0]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "observation: number 1 is inf",
        ),
        (
            pb.ActRequest(run_id="room", observation=[3]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "observation: number 0 is 3, and must be a whole number from 0 to 2",
        ),
    ],
)
async def test_act_refused_says_why(
    stub: Stub, tmp_path: Path, request_: pb.ActRequest, code: grpc.StatusCode, text: str
) -> None:
    publish(tmp_path, POLICY)
    publish(tmp_path, LinearPolicy(discrete(3)), run="room")
    RunStore(tmp_path).run("empty").claim(1)
    found, message = await code_and_message(stub.Act(request_))
    assert (found, text in message) == (code, True), message


MASKED = LinearPolicy(action=multi_discrete(3, 2), seed=4, masked=True)
ONE_LEFT = [False, False, True, True, False]


async def test_act_in_every_form_chooses_what_the_mask_allows(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, MASKED)
    described = await stub.DescribeModel(pb.DescribeModelRequest(run_id="r"))
    assert described.mask_size == 5
    request = pb.ActRequest(run_id="r", observation=OBSERVATION, action_mask=ONE_LEFT)
    for _ in range(6):  # with and without buffers that are bound
        assert list((await stub.Act(request)).action) == [2, 0]
        request.stochastic = not request.stochastic
    request.ClearField("action_mask")
    assert list((await stub.Act(request)).action) == expected(MASKED, OBSERVATION)
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    masks = np.ones((30, 5), bool)
    masks[::2] = ONE_LEFT
    for given in (masks, masks.astype(np.uint8)):
        batch = pb.ActBatchRequest(run_id="r", observations=[encode_tensor(rows)], action_masks=encode_tensor(given))
        actions = decode_tensor((await stub.ActBatch(batch)).actions)
        np.testing.assert_array_equal(actions, MASKED.act([rows], masks=masks))


async def test_mask_of_a_stream_is_that_of_one_request(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, MASKED)
    stream = stub.ActStream()
    found = []
    for mask in (ONE_LEFT, [], [True, False, True, False, False], ONE_LEFT):
        request = pb.ActRequest(run_id="r", observation=OBSERVATION, action_mask=mask)
        await stream.write(pb.ActStreamRequest(request=request))
        reply = await stream.read()
        assert isinstance(reply, pb.ActStreamResponse)
        found.append(list(reply.response.action) or reply.error.message)
    await stream.done_writing()
    assert found[0] == found[3] == [2, 0]
    assert found[1] == expected(MASKED, OBSERVATION)
    assert "action_mask: the mask of row 0 allows no value of dimension 1" in str(found[2])


@pytest.mark.parametrize(
    ("run", "mask", "text"),
    [
        ("r", [True] * 4, "action_mask: has 4 values, and the masks of the model have 5"),
        ("r", [False] * 5, "action_mask: the mask of row 0 allows no value of dimension 0"),
        ("plain", [True] * 2, "action_mask: is set, and the model takes none: it was not trained with masks"),
    ],
)
async def test_wrong_mask_is_refused(stub: Stub, tmp_path: Path, run: str, mask: list[bool], text: str) -> None:
    publish(tmp_path, MASKED)
    publish(tmp_path, POLICY, run="plain")
    code, message = await code_and_message(
        stub.Act(pb.ActRequest(run_id=run, observation=OBSERVATION, action_mask=mask))
    )
    assert (code, text in message) == (grpc.StatusCode.INVALID_ARGUMENT, True), message


@pytest.mark.parametrize(
    ("masks", "text"),
    [
        (np.ones((3, 5), bool), "action_masks: has shape [3, 5], expected [2, 5]"),
        (np.ones((2, 4), bool), "action_masks: has 4 values"),
        (np.ones((2, 5), np.float32), "action_masks: has dtype float32, expected bool or uint8"),
        (np.full((2, 5), 2, np.uint8), "action_masks: has a value that is neither 0 nor 1"),
        (
            np.array([[1] * 5, [0, 0, 0, 1, 1]], np.uint8),
            "action_masks: the mask of row 1 allows no value of dimension 0",
        ),
    ],
)
async def test_wrong_masks_of_a_batch_are_refused(
    stub: Stub, tmp_path: Path, masks: np.ndarray[Any, Any], text: str
) -> None:
    publish(tmp_path, MASKED)
    request = pb.ActBatchRequest(
        run_id="r", observations=[encode_tensor(np.zeros((2, 4), np.float32))], action_masks=encode_tensor(masks)
    )
    code, message = await code_and_message(stub.ActBatch(request))
    assert (code, text in message) == (grpc.StatusCode.INVALID_ARGUMENT, True), message


async def test_bad_argument_carries_its_details(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Act(pb.ActRequest(run_id="r", observation=[1]))
    status = rpc_status.from_call(caught.value)
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    assert details.field_violations[0].field == "observation"


async def test_act_batch_answers_as_act(stub: Stub, tmp_path: Path) -> None:
    published = publish(tmp_path, POLICY)
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    response = await stub.ActBatch(pb.ActBatchRequest(run_id="r", observations=[encode_tensor(observations)]))
    actions = decode_tensor(response.actions)
    assert actions.dtype == np.int64
    np.testing.assert_array_equal(actions, POLICY.act([observations]))
    assert response.model == published.digest


@pytest.mark.parametrize(
    ("array", "code", "text"),
    [
        (np.zeros((101, 4), np.float32), grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 100 (MAX_BATCH_OBSERVATIONS)"),
        (np.zeros((2, 5), np.float32), grpc.StatusCode.INVALID_ARGUMENT, "observations[0]: has shape [2, 5]"),
        (np.zeros((2, 4), np.float64), grpc.StatusCode.INVALID_ARGUMENT, "observations[0]: has dtype float64"),
        (np.full((2, 4), np.nan, np.float32), grpc.StatusCode.INVALID_ARGUMENT, "not finite"),
        (np.zeros((0, 4), np.float32), grpc.StatusCode.INVALID_ARGUMENT, "at least one observation"),
    ],
)
async def test_act_batch_refused_says_why(
    stub: Stub, tmp_path: Path, array: np.ndarray[Any, Any], code: grpc.StatusCode, text: str
) -> None:
    publish(tmp_path, POLICY)
    found, message = await code_and_message(
        stub.ActBatch(pb.ActBatchRequest(run_id="r", observations=[encode_tensor(array)]))
    )
    assert (found, text in message) == (code, True), message


async def test_stream_keeps_the_run_and_continues_after_errors(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    publish(tmp_path, LinearPolicy(bias=[0.0, 1.0]), run="other", step=7)
    requests = [
        pb.ActRequest(observation=OBSERVATION),
        pb.ActRequest(run_id="r", observation=OBSERVATION),
        pb.ActRequest(observation=[math.nan] * 4),
        pb.ActRequest(observation=OBSERVATION),
        pb.ActRequest(run_id="nowhere", observation=OBSERVATION),
        pb.ActRequest(observation=OBSERVATION),
        pb.ActRequest(run_id="other", observation=OBSERVATION, model="step:7"),
        pb.ActRequest(observation=OBSERVATION, model="ignored without a run_id"),
    ]
    call = stub.ActStream(iter([pb.ActStreamRequest(request=request) for request in requests]))
    replies = [reply async for reply in call]
    codes = [reply.error.code for reply in replies]
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.NOT_FOUND.value[0]
    assert codes == [invalid, 0, invalid, 0, missing, missing, 0, 0]
    assert "run_id" in replies[0].error.message
    assert "number 0 is nan" in replies[2].error.message
    assert [list(replies[i].response.action) for i in (1, 3)] == [expected(POLICY, OBSERVATION)] * 2
    assert [replies[i].response.model_timesteps for i in (6, 7)] == [7, 7]
    assert await call.code() == grpc.StatusCode.OK


async def test_stream_keeps_stochastic(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, LinearPolicy(bias=[0.0, 0.0]))
    first = pb.ActRequest(run_id="r", observation=OBSERVATION, stochastic=True)
    rest = [pb.ActRequest(observation=OBSERVATION)] * 60
    again = [pb.ActRequest(run_id="r", observation=OBSERVATION), *[pb.ActRequest(observation=OBSERVATION)] * 9]
    call = stub.ActStream(iter([pb.ActStreamRequest(request=request) for request in [first, *rest, *again]]))
    actions = [reply.response.action[0] async for reply in call]
    assert 10 < sum(actions[:61]) < 51
    assert set(actions[61:]) == {0.0}


async def test_model_is_sent_in_parts_of_a_megabyte(stub: Stub, tmp_path: Path) -> None:
    policy = LinearPolicy(padding=(5 << 20) // 2)
    published = publish(tmp_path, policy)
    parts = [part async for part in stub.GetModel(pb.GetModelRequest(run_id="r"))]
    onnx = b"".join(part.part for part in parts)
    assert onnx == policy.onnx()
    assert len(parts) == 3
    assert max(len(part.part) for part in parts) == 1 << 20
    assert parts[0].size == len(onnx)
    assert parts[0].file_digest == "sha256:" + hashlib.sha256(onnx).hexdigest()
    assert parts[0].description.model == published.digest
    assert not any(part.HasField("description") for part in parts[1:])


async def test_model_is_described(stub: Stub, tmp_path: Path) -> None:
    published = publish(tmp_path, POLICY)
    description = await stub.DescribeModel(pb.DescribeModelRequest(run_id="r"))
    assert (description.run_id, description.model, description.model_timesteps) == ("r", published.digest, 100)
    assert description.observation_space == POLICY.observation_space
    assert description.noise_size == 2


async def test_describe_and_get_of_a_missing_model_give_the_reason(stub: Stub) -> None:
    code, message = await code_and_message(stub.DescribeModel(pb.DescribeModelRequest(run_id="r")))
    assert (code, "'r'" in message) == (grpc.StatusCode.NOT_FOUND, True)
    code, _ = await code_and_message(stub.GetModel(pb.GetModelRequest(run_id="r")).read())
    assert code == grpc.StatusCode.NOT_FOUND


async def test_training_calls_are_not_served_here(stub: Stub) -> None:
    code, _ = await code_and_message(stub.StartTrainingPPO(pb.TrainingRequest()))
    assert code == grpc.StatusCode.UNIMPLEMENTED


async def test_hot_reload_fails_no_call_and_mixes_no_models(stub: Stub, tmp_path: Path) -> None:
    # Every model answers with its own step; an action of one model under the name of another would show.
    def numbered(step: int) -> LinearPolicy:
        return LinearPolicy(action=box(1, low=0, high=1e6), bias=[float(step)])

    def publish_many() -> None:
        writer = RunStore(tmp_path).run("r").claim(1)
        for step in range(2, 40):
            writer.point("latest", writer.publish_model(step, numbered(step).files()))
            writer.retain_models(1)

    publish(tmp_path, numbered(1), step=1)
    seen: list[int] = []
    publisher = asyncio.create_task(asyncio.to_thread(publish_many))
    async with asyncio.timeout(60):
        while not seen or seen[-1] < 39:
            batch = pb.ActBatchRequest(run_id="r", observations=[encode_tensor(np.zeros((3, 4), np.float32))])
            single = pb.ActRequest(run_id="r", observation=OBSERVATION)
            one, many = await asyncio.gather(stub.Act(single), stub.ActBatch(batch))
            assert list(one.action) == [one.model_timesteps]
            assert decode_tensor(many.actions).ravel().tolist() == [many.model_timesteps] * 3
            seen.append(one.model_timesteps)
    await publisher
    assert seen == sorted(seen)


async def test_slow_policy_does_not_delay_a_quick_one(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, LinearPolicy(busy=1200), run="slow")
    publish(tmp_path, POLICY, run="quick")
    for run in ("slow", "quick"):
        await stub.Act(pb.ActRequest(run_id=run, observation=OBSERVATION))
    slow = [asyncio.ensure_future(_finished(stub, "slow")) for _ in range(8)]
    quick = [await _finished(stub, "quick") for _ in range(3)]
    assert quick == ["quick"] * 3
    assert not all(call.done() for call in slow)
    assert await asyncio.gather(*slow) == ["slow"] * 8


async def _finished(stub: Stub, run: str) -> str:
    await stub.Act(pb.ActRequest(run_id=run, observation=OBSERVATION))
    return run


async def test_health_of_server_and_models(channel: grpc.aio.Channel, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    broken = publish(tmp_path, POLICY, run="broken")
    (broken.path / "policy.onnx").write_bytes(b"x")
    RunStore(tmp_path).run("empty").claim(1)
    health = health_pb2_grpc.HealthStub(channel)

    async def check(service: str) -> int:
        return int((await health.Check(health_pb2.HealthCheckRequest(service=service))).status)

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert await check("") == serving
    assert await check("aisandbox.v1.PolicyTrainerService") == serving
    assert await check("model/r") == serving
    assert await check("model/empty") == not_serving
    assert await check("model/broken") == not_serving
    for unknown in ("model/none", "model/../r", "other"):
        code, _ = await code_and_message(health.Check(health_pb2.HealthCheckRequest(service=unknown)))
        assert code == grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    reply = await call.read()
    names = {service.name for service in reply.list_services_response.service}
    assert {"aisandbox.v1.PolicyTrainerService", "grpc.health.v1.Health"} <= names


async def test_second_server_on_a_port_fails_and_names_it(server: Server, settings: Settings) -> None:
    second = create_server(replace(settings, grpc_port=server.port))
    with pytest.raises(AddressInUse, match=f"127.0.0.1:{server.port}.*GRPC_PORT"):
        second.start()
    second.stop(0)


async def test_metrics_are_served(settings: Settings, tmp_path: Path, unused_tcp_port: int) -> None:
    publish(tmp_path, POLICY)
    server = create_server(replace(settings, metrics_port=unused_tcp_port))
    server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        await stub.Act(pb.ActRequest(run_id="r", observation=OBSERVATION))
        await code_and_message(stub.Act(pb.ActRequest(run_id="r")))
    url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
    text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read())).decode()
    assert 'aisandbox_inference_answer_seconds_count{call="Act"} 1.0' in text
    assert 'aisandbox_inference_refusals_total{call="Act",code="INVALID_ARGUMENT"} 1.0' in text
    assert "aisandbox_inference_models 1.0" in text
    with pytest.raises(AddressInUse, match="METRICS_PORT"):
        create_server(replace(settings, metrics_port=unused_tcp_port)).start()
    await asyncio.to_thread(server.stop, 0)


async def test_request_over_the_message_limit_is_refused(settings: Settings, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    server = create_server(replace(settings, max_message_bytes=1024))
    server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        request = pb.ActRequest(run_id="r", observation=[0.0] * 1000)
        code, _ = await code_and_message(stub.Act(request))
    await asyncio.to_thread(server.stop, 0)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_stop_lets_running_calls_end(server: Server, stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, LinearPolicy(busy=1200))
    await _finished(stub, "r")
    calls = [asyncio.ensure_future(_finished(stub, "r")) for _ in range(4)]

    def begun() -> float | None:
        return server._registry.get_sample_value("aisandbox_inference_observations_total")

    await asyncio.to_thread(wait_until, begun, lambda count: count == 5, every=0.001)
    async with asyncio.timeout(60):
        await asyncio.to_thread(server.stop, 60)
    assert await asyncio.gather(*calls) == ["r"] * 4


async def test_stop_ends_streams_after_a_reply_without_waiting_for_the_client(
    server: Server, stub: Stub, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    publish(tmp_path, LinearPolicy(busy=1200))
    busy, idle, unused = stub.ActStream(), stub.ActStream(), stub.ActStream()
    request = pb.ActStreamRequest(request=pb.ActRequest(run_id="r", observation=OBSERVATION))
    for stream in (busy, idle):
        await stream.write(request)
        assert await stream.read() != grpc.aio.EOF
    await busy.write(request)
    # It comes after them on the same connection: what it follows has reached the server.
    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(60):
        await asyncio.to_thread(server.stop, 60)
    reply: Any = await busy.read()
    assert len(reply.response.action) == 1
    for stream in (busy, idle, unused):
        assert await stream.code() == grpc.StatusCode.UNAVAILABLE
        assert "the server is stopping" in await stream.details()
