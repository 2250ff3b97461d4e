"""Sessions between the real client and the real server over loopback, for every way of moving the bytes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.calls import describe, open_session_stream
from aisandbox_environment.errors import AtCapacity, RefusedRequest, SessionCancelled, SimulatorLost
from aisandbox_environment.grpc_adapter import GrpcExternalEnvAdapter
from aisandbox_environment.gymnasium_host import GymnasiumSimulation
from aisandbox_environment.server import SERVICE, EnvironmentServer, create_environment_server
from aisandbox_environment.session import SimulatorSession
from aisandbox_process.grpc_direct import ClientStream
from aisandbox_wire.errors import InvalidValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from waiting import wait_until

Stream = Callable[[str], ClientStream]


@pytest.fixture(params=[True, False], ids=["direct-server", "public-server"])
def server(request: pytest.FixtureRequest) -> Iterator[EnvironmentServer]:
    with create_environment_server(GymnasiumSimulation("CartPole-v1"), capacity=40, direct=request.param) as server:
        yield server


@pytest.fixture(params=[True, False], ids=["direct-client", "public-client"])
def stream(request: pytest.FixtureRequest) -> Stream:
    return functools.partial(open_session_stream, direct=request.param)


def trajectory(session: SimulatorSession, steps: int, seed: int) -> list[bytes]:
    n = session.environments
    random = np.random.default_rng(seed)
    seen = [session.reset([seed + i for i in range(n)]).observations[0].tobytes()]
    for _ in range(steps):
        result = session.step(random.integers(0, 2, n))
        seen.append(result.observations[0].tobytes() + result.rewards.tobytes() + result.terminated.tobytes())
    return seen


def test_session_gives_the_same_steps_as_the_simulation_in_process(server: EnvironmentServer, stream: Stream) -> None:
    batch = GymnasiumSimulation("CartPole-v1").make(3, {})
    expected = batch.reset([1, 2, 3])
    ends = 0
    with SimulatorSession.connect(server.address, 3, stream=stream) as session:
        assert session.spec.max_episode_steps == 500
        np.testing.assert_array_equal(session.reset([1, 2, 3]).observations[0], expected.observations[0])
        for action in [np.array([1, 1, 0])] * 60:
            there, here = session.step(action), batch.step(action)
            for name in ("rewards", "terminated", "truncated", "ended"):
                np.testing.assert_array_equal(getattr(there, name), getattr(here, name), name)
            np.testing.assert_array_equal(there.observations[0], here.observations[0])
            if len(here.ended):
                ends += 1
                np.testing.assert_array_equal(there.final_observations[0], here.final_observations[0])
    assert ends > 3


def test_sessions_in_flight_at_once_do_not_influence_each_other(server: EnvironmentServer, stream: Stream) -> None:
    def alone(seed: int) -> list[bytes]:
        with SimulatorSession.connect(server.address, 2, stream=stream) as session:
            return trajectory(session, 30, seed)

    expected = [alone(seed) for seed in (0, 50)]
    sessions = [SimulatorSession.connect(server.address, 2, stream=stream) for _ in expected]
    seen: list[list[bytes]] = [[], []]
    randoms = [np.random.default_rng(seed) for seed in (0, 50)]
    for session, seed, log in zip(sessions, (0, 50), seen, strict=True):
        log.append(session.reset([seed, seed + 1]).observations[0].tobytes())
    for _ in range(30):
        for session, random in zip(sessions, randoms, strict=True):
            session.send_step(random.integers(0, 2, 2))
        for session, log in zip(reversed(sessions), reversed(seen), strict=True):
            result = session.receive_step()
            log.append(result.observations[0].tobytes() + result.rewards.tobytes() + result.terminated.tobytes())
    for session in sessions:
        session.close()
    assert seen == expected


def test_capacity_is_refused_as_a_transient_error_and_freed_by_a_close(
    server: EnvironmentServer, stream: Stream
) -> None:
    first = SimulatorSession.connect(server.address, 30, stream=stream)
    assert (describe(server.address).capacity, describe(server.address).in_use) == (40, 30)
    with pytest.raises(AtCapacity, match="11 environments were requested and 10 of 40 are free"):
        SimulatorSession.connect(server.address, 11, stream=stream)
    first.close()
    wait_until(lambda: server.in_use == 0, seconds=10, every=0.02)
    SimulatorSession.connect(server.address, 40, stream=stream).close()


def test_cancelled_stream_frees_its_environments(server: EnvironmentServer, stream: Stream) -> None:
    session = SimulatorSession.connect(server.address, 5, stream=stream)
    assert server.in_use == 5
    session.cancel()
    wait_until(lambda: server.in_use == 0, seconds=10, every=0.02)
    session.close()


def test_options_reach_the_simulation_and_unknown_ones_are_named(server: EnvironmentServer, stream: Stream) -> None:
    with SimulatorSession.connect(server.address, 1, {"sutton_barto_reward": True}, stream=stream) as session:
        session.reset([0])
        assert session.step(np.array([0])).rewards.tolist() == [0.0]
    with pytest.raises(RefusedRequest, match=r"open.options: .*unexpected keyword argument 'moon'"):
        SimulatorSession.connect(server.address, 1, {"moon": 1}, stream=stream)


def test_refusal_in_band_leaves_the_session_open(server: EnvironmentServer, stream: Stream) -> None:
    with SimulatorSession.connect(server.address, 2, stream=stream) as session:
        with pytest.raises(RefusedRequest, match="refused 'step': step: the first step needs a reset"):
            session.step(np.array([0, 0]))
        session.reset()
        with pytest.raises(InvalidValue, match=r"actions: element \[1\] is 2"):
            session.step(np.array([0, 2]))
        with pytest.raises(InvalidValue, match=r"actions: has shape \[3\], expected \[2\]"):
            session.step(np.array([0, 0, 0]))
        with pytest.raises(ValueError, match="seeds: got 1, expected one for each of 2"):
            session.reset([1])
        assert session.step(np.array([0, 1])).rewards.tolist() == [1, 1]


def test_requests_in_the_wrong_order_raise_runtime_error(server: EnvironmentServer) -> None:
    session = SimulatorSession.connect(server.address, 1)
    session.reset()
    with pytest.raises(RuntimeError, match="no 'step' has been sent"):
        session.receive_step()
    session.send_step(np.array([0]))
    with pytest.raises(RuntimeError, match="the reply to 'step' has not been received"):
        session.send_step(np.array([0]))
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="the session has ended"):
        session.send_step(np.array([0]))


def test_wait_is_ended_by_cancel_from_another_thread(stream: Stream) -> None:
    stepping, released = threading.Event(), threading.Event()

    class Slow(FakeExternalEnvAdapter):
        def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
            stepping.set()
            released.wait(30)
            return super().step(action)  # type: ignore[arg-type]

    with create_environment_server(AdapterSimulation(Slow)) as server:
        session = SimulatorSession.connect(server.address, 1, stream=stream)
        session.reset()

        def cancel() -> None:
            if stepping.wait(30):
                session.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(SessionCancelled, match="cancelled while the reply to 'step' was awaited"):
            session.step(np.array([0]))  # its reply would come after `released`
        released.set()
        canceller.join()
        session.close()


def test_stopped_server_is_a_lost_simulator(server: EnvironmentServer, stream: Stream) -> None:
    session = SimulatorSession.connect(server.address, 2, stream=stream)
    session.reset()
    server.stop(grace=0)
    with pytest.raises(SimulatorLost):
        session.step(np.array([0, 0]))
    session.close()
    assert server.in_use == 0
    assert server.wait(0)


def test_second_server_on_the_port_is_refused(server: EnvironmentServer) -> None:
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}: is the port in use"):
        create_environment_server(AdapterSimulation(FakeExternalEnvAdapter), port=server.port)


def test_health_and_reflection_are_served(server: EnvironmentServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert SERVICE in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_adapter_is_one_environment_of_a_simulator(server: EnvironmentServer) -> None:
    adapter = GrpcExternalEnvAdapter(server.address)
    assert adapter.observation_space.box.shape == [4]
    assert adapter.action_space.discrete.n == 2
    assert adapter.max_episode_steps == 500
    first = adapter.reset(7)
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, adapter.reset(7))
    steps = 0
    ended = False
    observation = first
    while not ended:
        observation, reward, terminated, truncated, _ = adapter.step(np.array(1))  # type: ignore[assignment]
        assert (reward, truncated) == (1.0, False)
        ended = terminated
        steps += 1
    # The pole has fallen in what is returned; the next episode begins where the simulator has begun it.
    assert steps < 20
    assert abs(observation[2]) > 0.2
    with pytest.raises(RuntimeError, match="call reset before the next step"):
        adapter.step(np.array(1))
    begun = adapter.reset()
    assert isinstance(begun, np.ndarray)
    assert abs(begun[2]) < 0.06
    adapter.close()


def test_adapter_can_be_served_and_used_over_the_wire() -> None:
    simulation = AdapterSimulation(lambda: FakeExternalEnvAdapter(episode_steps=5))
    with create_environment_server(simulation) as server, SimulatorSession.connect(server.address, 4) as session:
        here = FakeExternalEnvAdapter(5)
        assert session.reset([3, 4, 5, 6]).observations[0][0] == here.reset(3)
        for step in range(1, 11):
            result = session.step(np.array([1, 0, 1, 0]))
            assert result.truncated.all() == (step % 5 == 0)
            assert not result.terminated.any()
            assert len(result.ended) == (4 if step % 5 == 0 else 0)
