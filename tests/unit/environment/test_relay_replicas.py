"""Two relays that know each other: a session reaches a simulator whichever of them it is attached to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import environment_pb2, simulator_pool_pb2
from aisandbox_environment import SimulatorRelay
from aisandbox_environment.relay.replicas import Replicas
from aisandbox_process.tls import ChannelSecurity, InvalidChannelSecurity
from attached_simulators import (
    SECONDS,
    AttachedSimulator,
    AttachRequest,
    PoolSession,
    describe,
    registration,
    serve,
    serving,
    simulators_of,
)
from certificates import Certificates
from structlog.testing import capture_logs

Code = grpc.StatusCode
A, B = 0, 1


class Replica:
    """A relay, and a channel to it."""

    def __init__(self, relay: SimulatorRelay, channel: grpc.aio.Channel, address: str) -> None:
        self.relay = relay
        self.channel = channel
        self.address = address


@pytest.fixture
async def replicas(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Replica]]:
    """Two, each of which knows the addresses of both, as with a headless Service."""
    monkeypatch.setattr(
        "aisandbox_environment.relay.replicas.ANSWER_SECONDS", SECONDS
    )  # none is left out for being slow
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(2):
            relay = SimulatorRelay()
            address, channel = await stack.enter_async_context(serve(relay))
            found.append(Replica(relay, channel, address))
        for each in found:
            each.relay.replicas.use({other.address for other in found})
        yield found
        for each in found:
            await each.relay.replicas.close()


async def test_session_reaches_a_simulator_of_the_other_replica(replicas: list[Replica]) -> None:
    async with serving(replicas[B].channel, registration(environments=2)):
        session = PoolSession(replicas[A].channel)
        assert (await session.open(4, run_id="run-1")).open.environments == 2
        assert (await session.reset()).WhichOneof("reply") == "reset"
        (found,) = await simulators_of(replicas[A].channel)
        assert (found.run_id, found.in_session) == ("run-1", True)
        assert await session.finish() == (Code.OK, "")
        (found,) = await simulators_of(replicas[A].channel)
        assert not found.in_session


async def test_largest_that_fit_come_first_whichever_replica_has_them(replicas: list[Replica]) -> None:
    elsewhere = (registration("large", environments=8), registration("medium", environments=4))
    async with serving(replicas[A].channel, registration("own")), serving(replicas[B].channel, *elsewhere):
        sizes = []
        for _ in range(2):
            sizes.append((await PoolSession(replicas[A].channel).open(5)).open.environments)  # noqa: PERF401
        assert sizes == [4, 1]
        refused = PoolSession(replicas[A].channel)
        assert await refused.open(5) is grpc.aio.EOF
        code, details = await refused.status()
        assert code is Code.RESOURCE_EXHAUSTED
        assert "of 3, 1 are free, the smallest with 8" in details


async def test_own_simulator_comes_before_another_of_its_size(replicas: list[Replica]) -> None:
    async with serving(replicas[A].channel, registration("z")), serving(replicas[B].channel, registration("a")):
        await PoolSession(replicas[A].channel).open(5)
        assert [(each.instance, each.in_session) for each in await simulators_of(replicas[A].channel)] == [
            ("a", False),
            ("z", True),
        ]


async def test_replica_that_is_retired_while_it_is_asked_is_left_out() -> None:
    asked = asyncio.Event()

    class Silent(SimulatorRelay):
        async def ListSimulators(self, request: bytes, context: Any) -> bytes:
            asked.set()
            return await asyncio.Future()

    async with serve(Silent()) as (address, _):
        replicas = Replicas()
        replicas.use({address})
        listing = asyncio.create_task(replicas.simulators("arena"))
        await asyncio.wait_for(asked.wait(), SECONDS)
        replicas.use(set())
        assert await asyncio.wait_for(listing, SECONDS) == []


async def test_replica_that_refuses_this_one_is_named_in_the_log() -> None:
    class Strict(SimulatorRelay):
        async def ListSimulators(self, request: bytes, context: Any) -> bytes:
            await context.abort(Code.UNAUTHENTICATED, "authentication required")
            return b""

    async with serve(Strict()) as (address, _):
        replicas = Replicas()
        replicas.use({address})
        with capture_logs() as logs:
            assert await replicas.simulators("arena") == []
        await replicas.close()
    assert [(line["log_level"], line["replica"], line["problem"]) for line in logs] == [
        ("warning", address, "authentication required")
    ]


async def test_replicas_stay_while_the_files_of_their_connections_cannot_be_read(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    replicas = Replicas(security=ChannelSecurity(tls=True, ca_file=made.ca))
    replicas.use({"127.0.0.1:1"})
    made.ca.write_bytes(b"half")
    for attempt in (replicas.connect_again, lambda: replicas.use({"127.0.0.1:1", "127.0.0.1:2"})):
        with pytest.raises(InvalidChannelSecurity):
            attempt()
        assert "127.0.0.1:1" in replicas._replicas
    made.write()
    replicas.use({"127.0.0.1:1", "127.0.0.1:2"})
    replicas.connect_again()
    assert replicas._replicas.keys() == {"127.0.0.1:1", "127.0.0.1:2"}
    await replicas.close()


async def test_describe_and_list_are_about_all_replicas(replicas: list[Replica]) -> None:
    a, b = registration("a", environments=3), registration("b", environments=2)
    async with serving(replicas[A].channel, b), serving(replicas[B].channel, a):
        await PoolSession(replicas[A].channel).open(2)
        for replica in replicas:
            found = await describe(replica.channel)
            assert (found.capacity, found.in_use) == (5, 2)
            assert [each.instance for each in await simulators_of(replica.channel)] == ["a", "b"]


async def test_registration_is_compared_with_the_other_replicas(replicas: list[Replica]) -> None:
    async with serving(replicas[A].channel, registration("a")):
        for message, code in (
            (registration("a"), Code.ALREADY_EXISTS),
            (registration("b", spec=OTHER_SPEC), Code.FAILED_PRECONDITION),
        ):
            simulator = AttachedSimulator(replicas[B].channel)
            assert await simulator.attach(message) is grpc.aio.EOF
            assert (await simulator.status())[0] is code


SPEC = registration().register.spec
OTHER_SPEC = environment_pb2.EnvironmentSpec(observation_space=SPEC.action_space, action_space=SPEC.action_space)


@pytest.mark.parametrize(
    ("second", "code", "words"),
    [
        (registration("a"), Code.ALREADY_EXISTS, "register.instance: pool 'arena' has an instance 'a' already"),
        (
            registration("b", spec=OTHER_SPEC),
            Code.UNAVAILABLE,
            "register.spec: a simulator with another spec joins pool 'arena' at this moment",
        ),
    ],
)
async def test_registrations_at_two_replicas_at_the_same_moment_notice_each_other(
    replicas: list[Replica], monkeypatch: pytest.MonkeyPatch, second: Any, code: Code, words: str
) -> None:
    """Each replica asks the other one when both have begun to register: at most one simulator is attached."""
    both, check = asyncio.Barrier(2), SimulatorRelay._check_with_replicas

    async def check_when_both_are_there(self: SimulatorRelay, new: Any) -> None:
        await both.wait()
        await check(self, new)

    with monkeypatch.context() as patch:
        patch.setattr(SimulatorRelay, "_check_with_replicas", check_when_both_are_there)
        simulators = [AttachedSimulator(replica.channel) for replica in replicas]
        answers = await asyncio.gather(simulators[A].attach(registration("a")), simulators[B].attach(second))
        refused = [simulator for simulator, answer in zip(simulators, answers, strict=True) if answer is grpc.aio.EOF]
        assert refused
        for simulator in refused:
            found, details = await simulator.status()
            assert (found, words in details) == (code, True), details
    if len(refused) == 2:
        assert (await AttachedSimulator(replicas[B].channel).attach(second)).WhichOneof("message") == "registered"
    assert [each.in_session for each in await simulators_of(replicas[A].channel)] == [False]


async def test_replica_that_goes_takes_only_its_own_sessions(replicas: list[Replica]) -> None:
    async with serving(replicas[A].channel, registration("a")), serving(replicas[B].channel, registration("b")):
        own, far = PoolSession(replicas[A].channel), PoolSession(replicas[A].channel)
        await own.open()
        await far.open()
        replicas[B].relay.stop_streams()
        assert (await far.status())[0] is Code.UNAVAILABLE
        assert (await own.reset()).WhichOneof("reply") == "reset"
        assert [each.instance for each in await simulators_of(replicas[A].channel)] == ["a"]


@pytest.mark.parametrize(("cancels", "code"), [(True, Code.CANCELLED), (False, Code.OK)])
async def test_end_by_the_trainer_reaches_the_other_replica(
    replicas: list[Replica], monkeypatch: pytest.MonkeyPatch, cancels: bool, code: Code
) -> None:
    simulator = AttachedSimulator(replicas[B].channel)
    await simulator.attach(registration())
    session = PoolSession(replicas[A].channel)
    opening = asyncio.create_task(session.open())
    await simulator.serve(answers=1)
    await opening
    if cancels:
        monkeypatch.setattr(
            "aisandbox_process.grpc_direct.served_stream._APART_SECONDS", SECONDS
        )  # however late its event
        session.call.cancel()
    else:
        await session.call.done_writing()
    assert (await simulator.receive()).session_ended.code == code.value[0]
    await simulator.send(AttachRequest(session_ended=simulator_pool_pb2.SessionEnded()))
    if not cancels:
        assert (await session.status())[0] is Code.OK
    (found,) = await simulators_of(replicas[A].channel)
    assert not found.in_session or cancels


async def test_status_of_a_simulator_passes_through_both_replicas(replicas: list[Replica]) -> None:
    async with serving(replicas[B].channel, registration()):
        session = PoolSession(replicas[A].channel)
        opening = environment_pb2.OpenRequest(protocol_version=7, environments=1)
        assert await session.ask(environment_pb2.SimulatorRequest(open=opening)) is grpc.aio.EOF
        code, details = await session.status()
        assert code is Code.FAILED_PRECONDITION
        assert "version 7" in details


async def test_replica_that_is_away_is_left_out(replicas: list[Replica]) -> None:
    a = replicas[A]
    a.relay.replicas.use({a.address, "127.0.0.1:1"})
    async with serving(a.channel, registration("a")):
        assert [each.instance for each in await simulators_of(a.channel)] == ["a"]
        assert (await PoolSession(a.channel).open()).open.environments == 1
