"""The relay over gRPC in one process: registrations, sessions, and the end of either side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import environment_pb2, simulator_pool_pb2, tensor_pb2
from aisandbox_environment import POOL_METADATA, Registration, SimulatorRelay
from aisandbox_environment.relay import RelayLimits
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_process.local_streams import IS_AVAILABLE
from aisandbox_wire.tensors import encode_tensor
from attached_simulators import (
    SECONDS,
    AttachedSimulator,
    PoolSession,
    describe,
    registration,
    serve,
    serving,
    simulators_of,
)

Code = grpc.StatusCode
AttachRequest = simulator_pool_pb2.AttachRequest
ENDED = simulator_pool_pb2.SessionEnded
STEP = environment_pb2.SimulatorRequest(step=environment_pb2.StepRequest(actions=encode_tensor(np.zeros(1, np.int64))))


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with serve(SimulatorRelay(version="1.2.3")) as (_, channel):
        yield channel


@pytest.fixture(params=["grpc", "socket"])
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What carries the sessions of trainers."""
    if request.param == "socket" and not IS_AVAILABLE:
        pytest.skip("no Unix sockets here")
    monkeypatch.setattr(PoolSession, "by_socket", request.param == "socket")
    return str(request.param)


async def wait_for_simulators(channel: grpc.aio.Channel, wanted: Any) -> list[Any]:
    async with asyncio.timeout(SECONDS):
        while not wanted(found := await simulators_of(channel)):  # noqa: ASYNC110 -- of another process, so to say
            await asyncio.sleep(0.01)
    return found


async def test_registration_is_answered_with_the_version(channel: grpc.aio.Channel) -> None:
    answer = await AttachedSimulator(channel).attach(registration())
    assert answer.registered.service_version == "1.2.3"


@pytest.mark.usefixtures("over")
async def test_session_passes_requests_and_replies(channel: grpc.aio.Channel) -> None:
    async with serving(channel, registration(environments=1)):
        session = PoolSession(channel)
        assert (await session.open(8, run_id="run-1")).open.environments == 1
        assert len((await session.reset()).reset.observations[0].data) == 4
        assert len((await session.ask(STEP)).step.rewards) == 4
        (simulator,) = await simulators_of(channel)
        assert (simulator.run_id, simulator.steps, simulator.in_session) == ("run-1", 1, True)
        assert await session.finish() == (Code.OK, "")
        (simulator,) = await simulators_of(channel)
        assert (simulator.run_id, simulator.in_session) == ("", False)


@pytest.mark.usefixtures("over")
async def test_place_serves_one_session_after_another(channel: grpc.aio.Channel) -> None:
    async with serving(channel, registration()):
        for _ in range(3):
            session = PoolSession(channel)
            assert (await session.open()).WhichOneof("reply") == "open"
            assert (await session.reset()).WhichOneof("reply") == "reset"
            assert (await session.finish())[0] is Code.OK


@pytest.mark.usefixtures("over")
async def test_session_gets_the_largest_place_that_fits(channel: grpc.aio.Channel) -> None:
    sizes = (1, 4, 16)
    async with serving(channel, *(registration(f"of-{size}", environments=size) for size in sizes)):
        sessions = [PoolSession(channel) for _ in range(3)]
        assert (await sessions[0].open(8)).open.environments == 4
        assert (await sessions[1].open(8)).open.environments == 1
        assert await sessions[2].open(8) is grpc.aio.EOF
        code, details = await sessions[2].status()
        assert code is Code.RESOURCE_EXHAUSTED
        assert "at most 8 environments" in details
        assert "the smallest with 16" in details


@pytest.mark.usefixtures("over")
async def test_describe_answers_for_the_pool(channel: grpc.aio.Channel) -> None:
    async with serving(channel, registration("a", environments=3, name="arena"), registration("b", environments=2)):
        session = PoolSession(channel)
        await session.open(2)
        found = await describe(channel)
        assert (found.name, found.capacity, found.in_use) == ("arena", 5, 2)
        assert found.spec == registration().register.spec


@pytest.mark.parametrize(
    ("pool", "code", "words"),
    [
        ("", Code.INVALID_ARGUMENT, POOL_METADATA),
        ("No!", Code.INVALID_ARGUMENT, "lower-case"),
        ("x", Code.UNAVAILABLE, "'x'"),
    ],
)
@pytest.mark.usefixtures("over")
async def test_calls_for_no_pool_are_refused(channel: grpc.aio.Channel, pool: str, code: Code, words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=words) as refusal:
        await describe(channel, pool)
    assert refusal.value.code() is code
    session = PoolSession(channel, pool)
    assert await session.open() is grpc.aio.EOF
    assert (await session.status())[0] is code


BOX = tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2]))


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (registration(pool="No!"), Code.INVALID_ARGUMENT, "register.pool: must be 1 to 63 lower-case"),
        (registration(pool=""), Code.INVALID_ARGUMENT, "register.pool"),
        (registration(""), Code.INVALID_ARGUMENT, "register.instance: must be 1 to 128 printable"),
        (registration("a\nb"), Code.INVALID_ARGUMENT, "register.instance"),
        (registration("a" * 129), Code.INVALID_ARGUMENT, "register.instance"),
        (registration(environments=0), Code.INVALID_ARGUMENT, "register.environments: must be 1 to 4,096, got 0"),
        (registration(environments=4097), Code.INVALID_ARGUMENT, "register.environments"),
        (registration(protocol_version=2), Code.FAILED_PRECONDITION, "version 2, this service 1"),
        (registration(spec=environment_pb2.EnvironmentSpec()), Code.INVALID_ARGUMENT, "register.spec.action_space"),
        (registration(name="x" * 1024 * 1024), Code.INVALID_ARGUMENT, "register: has 1,04"),
        (AttachRequest(session_ended=ENDED()), Code.INVALID_ARGUMENT, "register: must be the first message"),
        (AttachRequest(), Code.INVALID_ARGUMENT, "register: must be the first message"),
    ],
)
async def test_registration_that_breaks_a_rule_is_refused(
    channel: grpc.aio.Channel, message: AttachRequest, code: Code, words: str
) -> None:
    simulator = AttachedSimulator(channel)
    assert await simulator.attach(message) is grpc.aio.EOF
    found, details = await simulator.status()
    assert found is code
    assert words in details


async def test_registration_with_another_spec_is_refused(channel: grpc.aio.Channel) -> None:
    spec = environment_pb2.EnvironmentSpec(
        observation_space=BOX, action_space=registration().register.spec.action_space
    )
    async with serving(channel, registration("a")):
        other = AttachedSimulator(channel)
        assert await other.attach(registration("b", spec=spec)) is grpc.aio.EOF
        code, details = await other.status()
        assert code is Code.FAILED_PRECONDITION
        assert "observation_space: Box float32 [2] from -inf to inf, not Box float32 [1] from -1 to 1" in details


async def test_instance_has_one_place_at_a_time(channel: grpc.aio.Channel) -> None:
    async with serving(channel, registration("a")) as (first,):
        second = AttachedSimulator(channel)
        assert await second.attach(registration("a")) is grpc.aio.EOF
        code, details = await second.status()
        assert code is Code.ALREADY_EXISTS
        assert "'a'" in details
        await first.call.done_writing()
        assert (await first.status())[0] is Code.OK
        assert (await AttachedSimulator(channel).attach(registration("a"))).WhichOneof("message") == "registered"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (registration("again"), "register: is only the first message"),
        (AttachRequest(reply=environment_pb2.SimulatorReply()), "reply: came outside a session"),
        (AttachRequest(session_ended=ENDED()), "session_ended: came outside a session"),
        (AttachRequest(), "message: is not an AttachRequest"),
    ],
)
async def test_message_outside_a_session_ends_the_stream(
    channel: grpc.aio.Channel, message: AttachRequest, words: str
) -> None:
    simulator = AttachedSimulator(channel)
    await simulator.attach(registration())
    await simulator.send(message)
    assert await simulator.receive() is grpc.aio.EOF
    code, details = await simulator.status()
    assert code is Code.INVALID_ARGUMENT
    assert words in details
    assert await simulators_of(channel) == []


@pytest.mark.usefixtures("over")
async def test_end_by_the_simulator_reaches_the_trainer_and_frees_the_place(channel: grpc.aio.Channel) -> None:
    simulator = AttachedSimulator(channel)
    await simulator.attach(registration())
    session = PoolSession(channel)
    opening = asyncio.create_task(session.open())
    assert (await simulator.receive()).request.WhichOneof("request") == "open"
    await simulator.send(AttachRequest(session_ended=ENDED(code=Code.INTERNAL.value[0], message="the ball is gone")))
    assert await opening is grpc.aio.EOF
    assert await session.status() == (Code.INTERNAL, "the ball is gone")
    ended = await simulator.receive()
    assert (ended.WhichOneof("message"), ended.session_ended.code) == ("session_ended", 0)
    again = asyncio.create_task(PoolSession(channel).open())
    assert (await simulator.receive()).request.WhichOneof("request") == "open"
    again.cancel()


@pytest.mark.usefixtures("over")
async def test_long_message_of_a_simulator_is_shortened(channel: grpc.aio.Channel) -> None:
    simulator = AttachedSimulator(channel)
    await simulator.attach(registration())
    session = PoolSession(channel)
    opening = asyncio.create_task(session.open())
    await simulator.receive()
    await simulator.send(AttachRequest(session_ended=ENDED(code=99, message="ü" * 100_000)))
    await opening
    code, details = await session.status()
    assert code is Code.UNKNOWN
    assert details.endswith("…")


@pytest.mark.usefixtures("over")
async def test_cancel_by_the_trainer_reaches_the_simulator(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_process.grpc_direct.served_stream._APART_SECONDS", SECONDS)  # however late its event
    simulator = AttachedSimulator(channel)
    await simulator.attach(registration())
    session = PoolSession(channel)
    opening = asyncio.create_task(session.open())
    assert (await simulator.receive()).request.WhichOneof("request") == "open"
    session.call.cancel()
    ended = await simulator.receive()
    assert ended.session_ended.code == Code.CANCELLED.value[0]
    assert "the trainer was lost or has cancelled the session" in ended.session_ended.message
    (found,) = await simulators_of(channel)
    assert found.in_session, "the simulator is free only when the simulator has ended the session too"
    await simulator.send(AttachRequest(reply=environment_pb2.SimulatorReply()))  # was on its way: discarded
    await simulator.send(AttachRequest(session_ended=ENDED()))
    await wait_for_simulators(channel, lambda found: not found[0].in_session)
    with contextlib.suppress(asyncio.CancelledError):
        await opening


@pytest.mark.usefixtures("over")
async def test_simulator_that_leaves_ends_its_session_only(channel: grpc.aio.Channel) -> None:
    async with serving(channel, registration("a"), registration("b")) as (first, _):
        sessions = [PoolSession(channel), PoolSession(channel)]
        for session in sessions:
            await session.open()
        first.call.cancel()
        ended, other = sessions
        code, details = await ended.status()
        assert code is Code.UNAVAILABLE
        assert "simulator 'a' was lost" in details
        assert (await other.reset()).WhichOneof("reply") == "reset"


@pytest.mark.usefixtures("over")
async def test_simulator_that_never_ends_a_session_loses_its_place() -> None:
    async with serve(SimulatorRelay(limits=RelayLimits(end_seconds=0.05))) as (_, channel):
        simulator = AttachedSimulator(channel)
        await simulator.attach(registration())
        session = PoolSession(channel)
        opening = asyncio.create_task(session.open())
        await simulator.receive()
        session.call.cancel()
        code, details = await simulator.status()
        assert code is Code.UNAVAILABLE
        assert "did not end its side of the session within 0.05 s" in details
        opening.cancel()


async def test_stream_without_a_registration_ends() -> None:
    async with serve(SimulatorRelay(limits=RelayLimits(register_seconds=0.05))) as (_, channel):
        code, details = await AttachedSimulator(channel).status()
        assert (code, "did not come within 0.05 s" in details) == (Code.INVALID_ARGUMENT, True)


async def test_flood_of_registrations_is_refused() -> None:
    async with serve(SimulatorRelay(limits=RelayLimits(burst=2, per_second=0.001))) as (_, channel):
        for i in range(2):
            await AttachedSimulator(channel).attach(registration(f"{i}"))
        third = AttachedSimulator(channel)
        assert await third.attach(registration("third")) is grpc.aio.EOF
        code, details = await third.status()
        assert code is Code.RESOURCE_EXHAUSTED
        assert "too many registrations from 127.0.0.1" in details


class PlainLink:
    """A link of a peer that sends ``messages`` and nothing after them; after so many ``reads`` it reads no more."""

    peer = "192.0.2.1"
    exchange: Callable[[bytes], None] | None = None

    def __init__(self, *messages: Any, reads: int = 1) -> None:
        self.metadata = {POOL_METADATA: "arena"}
        self._messages = [message.SerializeToString() for message in messages]
        self._reads = reads
        self.stalled = asyncio.Event()

    def ask(self) -> None: ...

    async def read(self, _take: Any = None) -> bytes | None:
        return self._messages.pop(0) if self._messages else await asyncio.Future()

    async def write(self, message: bytes) -> None:
        self._reads -= 1
        if self._reads < 0:
            self.stalled.set()
            await asyncio.Future()


class ExchangingLink(PlainLink):
    """A link that also takes messages without waiting: ``exchanged``. Its peer's messages are put into ``incoming``."""

    def __init__(self, *messages: Any, reads: int) -> None:
        super().__init__(reads=reads)
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.exchanged: list[bytes] = []
        self.exchange = self.exchanged.append
        self.written = 0
        for message in messages:
            self.incoming.put_nowait(message)

    async def write(self, message: bytes) -> None:
        await super().write(message)
        self.written += 1

    async def read(self, take: Any = None) -> bytes | None:
        while True:
            message: bytes = (await self.incoming.get()).SerializeToString()
            if take is None or not take(message):
                return message


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 -- of what has no event
        await asyncio.sleep(0)


async def test_replies_to_no_request_wait_until_the_trainer_reads() -> None:
    opening = environment_pb2.SimulatorRequest(open=environment_pb2.OpenRequest(protocol_version=1, environments=1))
    opened = AttachRequest(reply=environment_pb2.SimulatorReply(open=environment_pb2.OpenReply()))
    reply = AttachRequest(reply=environment_pb2.SimulatorReply(step=environment_pb2.StepReply()))
    relay = SimulatorRelay()
    simulator, trainer = ExchangingLink(registration(), reads=2), ExchangingLink(opening, reads=1)
    async with asyncio.timeout(SECONDS):
        attached = asyncio.create_task(relay.attach(simulator))
        await until(lambda: simulator.written == 1)
        session = asyncio.create_task(relay.serve_session(trainer))
        await until(lambda: simulator.written == 2)
        simulator.incoming.put_nowait(opened)
        await until(lambda: trainer.written == 1)
        trainer.incoming.put_nowait(STEP)
        await until(lambda: bool(simulator.exchanged))
        for _ in range(3):
            simulator.incoming.put_nowait(reply)
        await trainer.stalled.wait()
    assert len(trainer.exchanged) == 1
    assert simulator.incoming.qsize() == 1
    for task in (session, attached):
        task.cancel()


async def test_streams_without_a_registration_count_for_their_host() -> None:
    relay = SimulatorRelay(limits=RelayLimits(burst=2, per_second=0.001))
    silent = [asyncio.create_task(relay.attach(PlainLink())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StreamAborted, match=r"too many registrations from 192\.0\.2\.1"):
        await relay.attach(PlainLink(registration()))
    for each in silent:
        each.cancel()


async def test_simulator_that_reads_no_more_loses_its_place_when_its_trainer_leaves() -> None:
    relay = SimulatorRelay(limits=RelayLimits(end_seconds=0.05))
    simulator = PlainLink(registration(), reads=1)
    attached = asyncio.create_task(relay.attach(simulator))
    opening = environment_pb2.OpenRequest(protocol_version=1, environments=1)

    async def session() -> None:
        with contextlib.suppress(StreamAborted):  # until it is attached
            await relay.serve_session(PlainLink(environment_pb2.SimulatorRequest(open=opening)))

    async with asyncio.timeout(SECONDS):
        while not simulator.stalled.is_set():
            trainer = asyncio.create_task(session())
            await asyncio.wait(
                [trainer, stalled := asyncio.create_task(simulator.stalled.wait())], return_when="FIRST_COMPLETED"
            )
            stalled.cancel()
        trainer.cancel()
        with pytest.raises(StreamAborted, match="did not end its side of the session"):
            await attached


async def test_more_simulators_than_allowed_are_refused() -> None:
    async with serve(SimulatorRelay(limits=RelayLimits(simulators=1))) as (_, channel):
        first = AttachedSimulator(channel)
        await first.attach(registration("first"))
        second = AttachedSimulator(channel)
        code, details = await second.status()
        assert (code, "MAX_SIMULATORS: 1 " in details) == (Code.RESOURCE_EXHAUSTED, True)


async def test_admission_may_refuse_a_registration() -> None:
    async def admit(new: Registration, metadata: Mapping[str, str]) -> None:
        if metadata.get("authorization") != "Bearer secret":
            raise StreamAborted(Code.PERMISSION_DENIED, f"this caller may not join pool {new.pool!r}")

    async with serve(SimulatorRelay(admit=admit)) as (_, channel):
        refused = AttachedSimulator(channel)
        assert await refused.attach(registration()) is grpc.aio.EOF
        assert await refused.status() == (Code.PERMISSION_DENIED, "this caller may not join pool 'arena'")
        admitted = AttachedSimulator(channel, (("authorization", "Bearer secret"),))
        assert (await admitted.attach(registration())).WhichOneof("message") == "registered"


@pytest.mark.usefixtures("over")
async def test_stop_ends_places_and_sessions_with_unavailable() -> None:
    relay = SimulatorRelay()
    async with serve(relay) as (_, channel), serving(channel, registration()) as (simulator,):
        session = PoolSession(channel)
        await session.open()
        assert relay.stop_streams()
        assert await session.status() == (Code.UNAVAILABLE, "the service is stopping: open the session again")
        assert await simulator.status() == (Code.UNAVAILABLE, "the service is stopping: attach again")
        assert (await AttachedSimulator(channel).status())[0] is Code.UNAVAILABLE


@pytest.mark.usefixtures("over")
async def test_peer_that_reads_slowly_is_waited_for_in_bounded_memory(channel: grpc.aio.Channel) -> None:
    """The trainer pipelines large requests to a simulator that reads none: they stay with the trainer."""
    simulator = AttachedSimulator(channel)
    await simulator.attach(registration())
    session = PoolSession(channel)
    opening = asyncio.create_task(session.open())
    await simulator.receive()
    large = environment_pb2.SimulatorRequest(
        step=environment_pb2.StepRequest(actions=tensor_pb2.Tensor(data=bytes(1024 * 1024)))
    )
    written = 0

    async def flood() -> None:
        nonlocal written
        while True:
            await session.call.write(large)
            written += 1

    flooding = asyncio.create_task(flood())
    async with asyncio.timeout(SECONDS):
        seen = -1
        while not 0 < written == seen:  # until a moment passes without another one
            seen = written
            assert not flooding.done()
            assert written < 64, "every MiB would be held by the relay"
            await asyncio.sleep(0.5)
    for task in (flooding, opening):
        task.cancel()
    session.call.cancel()
