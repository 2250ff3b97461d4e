"""Recurrent policies as they are served: the caller, or the stream, carries the state from one call to the next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_inference import Settings, policy_service
from aisandbox_inference.episode_states import EpisodeStates
from aisandbox_inference.server import Server, create_server
from aisandbox_model_store import RunStore
from aisandbox_wire import decode_tensor, encode_tensor
from onnx_policies import LinearPolicy, box, discrete, publish
from summing_policies import SummingPolicy

if TYPE_CHECKING:
    from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceAsyncStub as Stub

WIDE = box(2, low=-1e6, high=1e6)
POLICY = SummingPolicy(action=WIDE)
EPISODE = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
ACTIONS = POLICY.act_in_episode([EPISODE])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = create_server(Settings(models_dir=tmp_path, grpc_port=0))
    server.start()
    yield server
    await asyncio.to_thread(server.stop, 0)


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[Stub]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)


def request(step: int, **more: Any) -> pb.ActRequest:
    return pb.ActRequest(run_id="r", observation=EPISODE[step].tolist(), **more)


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.details() or ""


async def test_act_with_the_state_of_the_last_response_goes_on_with_the_episode(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    for _ in range(2):  # the second time with bindings
        response = await stub.Act(request(0, episode_start=True))
        np.testing.assert_allclose(response.action, ACTIONS[0], rtol=1e-5)
        assert len(response.state) == 32 + 4 * (2 + 6)
        for step in range(1, len(EPISODE)):
            response = await stub.Act(request(step, state=response.state))
            np.testing.assert_allclose(response.action, ACTIONS[step], rtol=1e-5)
    started = await stub.Act(request(0, state=b"nonsense", episode_start=True))
    np.testing.assert_allclose(started.action, ACTIONS[0], rtol=1e-5)


async def test_state_is_answered_by_its_model_until_the_episode_ends(stub: Stub, tmp_path: Path) -> None:
    first = publish(tmp_path, POLICY)
    other = SummingPolicy(action=WIDE, seed=1)
    response = await stub.Act(request(0, episode_start=True))
    assert response.model == first.digest
    second = publish(tmp_path, other, step=200)
    started = response
    async with asyncio.timeout(60):
        while started.model == first.digest:  # the newer model is noticed in the background
            started = await stub.Act(request(0, episode_start=True))
    response = await stub.Act(request(1, state=response.state))
    assert response.model == first.digest
    np.testing.assert_allclose(response.action, ACTIONS[1], rtol=1e-5)
    assert started.model == second.digest
    assert "belongs to the model" in await refusal(stub.Act(request(2, state=response.state, model="step:200")))


async def test_state_that_does_not_belong_is_refused_with_the_rule(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    publish(tmp_path, SummingPolicy(action=WIDE, seed=1), run="other")
    publish(tmp_path, LinearPolicy(), run="plain")
    state = (await stub.Act(request(0, episode_start=True))).state
    cases = {
        "state: the policy is recurrent": request(1),
        "state: belongs to the model sha256:": pb.ActRequest(run_id="other", observation=[0.0] * 4, state=state),
        "state: has 5 bytes, and is not a state": request(1, state=b"short"),
        "state: has 65 bytes, and a state of this model has 64": request(1, state=state + b"x"),
        "state: has numbers that are not finite": request(1, state=state[:32] + b"\xff" * 32),
        "state: the policy is not recurrent": pb.ActRequest(run_id="plain", observation=[0.0] * 4, state=state),
    }
    for rule, each in cases.items():
        assert rule in await refusal(stub.Act(each))
    plain = await stub.Act(pb.ActRequest(run_id="plain", observation=[0.0] * 4, episode_start=True))
    assert plain.state == b""


async def test_act_batch_takes_and_gives_a_state_for_each_observation(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)

    def batch(rows: list[int], **more: Any) -> pb.ActBatchRequest:
        return pb.ActBatchRequest(run_id="r", observations=[encode_tensor(EPISODE[rows])], **more)

    first = await stub.ActBatch(batch([0, 0, 3], episode_start=[True] * 3))
    second = await stub.ActBatch(batch([1, 0, 4], state=first.state, episode_start=[False, True, False]))
    expected = [ACTIONS[1], ACTIONS[0], POLICY.act_in_episode([EPISODE[3:5]])[1]]
    np.testing.assert_allclose(decode_tensor(second.actions, "actions"), expected, rtol=1e-5)
    assert len(second.state) == 3
    for rule, each in {
        "state: has 3 entries for 2 observations": batch([0, 1], state=first.state),
        "episode_start: has 1 entries for 2 observations": batch([0, 1], episode_start=[True]),
        "state[1]: the policy is recurrent": batch([0, 1], state=[first.state[0], b""]),
        "state[0]: the policy is recurrent": batch([0, 1]),
        "state[1]: belongs to the model": batch([0, 1], state=[first.state[0], b"0" * 64]),
    }.items():
        assert rule in await refusal(stub.ActBatch(each))


async def test_batch_whose_states_are_more_than_a_message_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    server = create_server(Settings(models_dir=tmp_path, grpc_port=0, max_message_bytes=2048))
    server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
            calls = []
            for count in (20, 33):  # a state has 64 bytes
                observations = [encode_tensor(np.zeros((count, 4), np.float32))]
                starts = [True] * count
                calls.append(pb.ActBatchRequest(run_id="r", observations=observations, episode_start=starts))
            assert len((await stub.ActBatch(calls[0])).state) == 20
            assert "observations: are 33, whose states of 64 bytes" in await refusal(stub.ActBatch(calls[1]))
    finally:
        await asyncio.to_thread(server.stop, 0)


async def test_batch_of_many_numbers_of_state_is_answered_in_the_pool(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, POLICY)
    threads: list[str] = []
    for method in ("from_states", "to_bytes"):
        real = getattr(EpisodeStates, method)

        def call(*arguments: Any, real: Any = real) -> Any:
            threads.append(threading.current_thread().name)
            return real(*arguments)

        monkeypatch.setattr(EpisodeStates, method, call)
    monkeypatch.setattr(policy_service, "_INLINE_NUMBERS", 20)
    await stub.Act(request(0, episode_start=True))  # loads the model
    threads.clear()
    observations = [encode_tensor(np.zeros((3, 4), np.float32))]  # 4 numbers of observation and 8 of state each
    await stub.ActBatch(pb.ActBatchRequest(run_id="r", observations=observations, episode_start=[True] * 3))
    assert [name.partition("_")[0] for name in threads] == ["inference"] * 2


async def test_stream_keeps_the_state_and_another_one_goes_on_with_it(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)

    async def ask(call: Any, message: pb.ActRequest) -> pb.ActStreamResponse:
        await call.write(pb.ActStreamRequest(request=message))
        reply = await call.read()
        assert isinstance(reply, pb.ActStreamResponse)
        return reply

    call = stub.ActStream()
    assert "state: the policy is recurrent" in (await ask(call, request(0))).error.message
    reply = await ask(call, request(0, episode_start=True))
    for step in range(1, 4):
        reply = await ask(call, pb.ActRequest(observation=EPISODE[step].tolist()))
        np.testing.assert_allclose(reply.response.action, ACTIONS[step], rtol=1e-5)
        assert (await ask(call, pb.ActRequest(observation=[1.0]))).HasField("error")  # changes nothing
    call.cancel()
    another = stub.ActStream()
    state = reply.response.state
    for step in range(4, len(EPISODE)):
        reply = await ask(another, request(step, state=state))
        state = b""
        np.testing.assert_allclose(reply.response.action, ACTIONS[step], rtol=1e-5)
    reply = await ask(another, request(0, episode_start=True))
    np.testing.assert_allclose(reply.response.action, ACTIONS[0], rtol=1e-5)
    await another.done_writing()


async def test_stream_keeps_what_a_request_that_fails_says_of_the_state(stub: Stub, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    state = (await stub.Act(request(0, episode_start=True))).state
    call = stub.ActStream()

    async def ask(**fields: Any) -> pb.ActStreamResponse:
        await call.write(pb.ActStreamRequest(request=pb.ActRequest(run_id="r", **fields)))
        reply = await call.read()
        assert isinstance(reply, pb.ActStreamResponse)
        return reply

    assert (await ask(observation=[1.0], state=state)).HasField("error")
    reply = await ask(observation=EPISODE[1].tolist())
    np.testing.assert_allclose(reply.response.action, ACTIONS[1], rtol=1e-5)
    assert (await ask(observation=[1.0], episode_start=True)).HasField("error")
    reply = await ask(observation=EPISODE[1].tolist())
    assert "state: the policy is recurrent" in reply.error.message, "the episode before has ended"
    await call.done_writing()


@pytest.mark.parametrize(
    ("file", "of"),
    [
        ("policy.onnx", LinearPolicy(action=WIDE)),
        ("golden.json", LinearPolicy(action=WIDE)),
        ("metadata.json", LinearPolicy(action=WIDE)),
        ("golden.json", SummingPolicy(action=WIDE, seed=1)),
        ("policy.onnx", SummingPolicy(action=discrete(2))),
    ],
)
async def test_model_whose_memory_is_not_what_it_says_is_not_served(
    stub: Stub, tmp_path: Path, file: str, of: LinearPolicy
) -> None:
    writer = RunStore(tmp_path).run("r").claim(1)
    writer.point("latest", writer.publish_model(100, {**POLICY.files(), file: of.files()[file]}))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Act(request(0, episode_start=True))
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS
