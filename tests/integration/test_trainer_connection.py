"""Several simulators are opened, reset and given up together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import environment_pb2_grpc as services
from aisandbox_crds.spec import GrpcEnvironment
from aisandbox_environment.errors import AtCapacity
from aisandbox_trainer.environments.grpc_vec_env import GrpcVecEnv
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.environments.sessions import open_sessions
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_wire.gymnasium_spaces import space_to_proto
from aisandbox_wire.tensors import encode_tensor
from gymnasium import spaces

BOUND = 20.0
SPEC = pb.EnvironmentSpec(
    observation_space=space_to_proto(spaces.Box(-1, 1, (1,), np.float32)),
    action_space=space_to_proto(spaces.Discrete(2)),
)


class Together(services.EnvironmentServiceServicer):
    """Answers an open when all but the first have been asked for one, and a reset when all have."""

    def __init__(self, simulators: int) -> None:
        self.opens = threading.Barrier(simulators - 1)
        self.resets = threading.Barrier(simulators)
        self.first = threading.Event()

    def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        return pb.DescribeResponse(protocol_version=1, name="test", spec=SPEC)

    def Session(self, requests: Iterator[pb.SimulatorRequest], context: Any) -> Iterator[pb.SimulatorReply]:
        for request in requests:
            if request.HasField("open"):
                if self.first.is_set():
                    self.opened(context)
                self.first.set()
                yield pb.SimulatorReply(open=pb.OpenReply(spec=SPEC))
            else:
                self.resets.wait(BOUND)
                observations = [encode_tensor(np.zeros((1, 1), np.float32))]
                yield pb.SimulatorReply(reset=pb.ResetReply(observations=observations))

    def opened(self, context: Any) -> None:
        self.opens.wait(BOUND)


class Loading(Together):
    """Never has loaded."""

    def __init__(self, simulators: int) -> None:
        super().__init__(simulators)
        self.given_up = threading.Semaphore(0)

    def opened(self, context: Any) -> None:
        over = threading.Event()
        context.add_callback(over.set)
        super().opened(context)
        over.wait(BOUND)
        self.given_up.release()


class Full(Loading):
    """One has no room, the others never have loaded."""

    def opened(self, context: Any) -> None:
        if self.opens.wait(BOUND) == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more environments")
        over = threading.Event()
        if not context.add_callback(over.set):
            over.set()
        over.wait(BOUND)
        self.given_up.release()


@contextmanager
def serving(simulator: Together, number: int) -> Iterator[GrpcEnvironment]:
    servers, ports = [], []
    for _ in range(number):
        server = grpc.server(ThreadPoolExecutor(4))
        services.add_EnvironmentServiceServicer_to_server(simulator, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        servers.append(server)
    try:
        yield GrpcEnvironment(",".join(f"127.0.0.1:{port}" for port in ports))
    finally:
        for server in servers:
            server.stop(None).wait(BOUND)


def test_simulators_load_and_reset_at_the_same_time() -> None:
    with serving(Together(4), 4) as target:
        env = GrpcVecEnv(partial(open_sessions, target, 4, run_id="run-1", evaluation=False), Stop())
        try:
            assert env.reset().shape == (4, 1)
        finally:
            env.close()


def test_simulator_without_room_ends_the_wait_for_the_others() -> None:
    simulator = Full(3)
    with serving(simulator, 3) as target, pytest.raises(AtCapacity, match="no more environments"):
        open_sessions(target, 3, run_id="run-1", evaluation=False)
    assert simulator.given_up.acquire(timeout=BOUND)


def test_stop_ends_the_wait_for_all_simulators() -> None:
    simulator, stop = Loading(3), Stop()
    simulator.opens = threading.Barrier(3)  # the two that load, and who asks to stop

    def ask() -> None:
        simulator.opens.wait(BOUND)
        os.kill(os.getpid(), signal.SIGTERM)

    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop.install()
    asking = threading.Thread(target=ask)
    try:
        with serving(simulator, 3) as target:
            asking.start()
            with pytest.raises(StopRequested):
                SimulatorRetry(BOUND, ProgressTracker(), stop).call(
                    partial(open_sessions, target, 3, run_id="run-1", evaluation=False)
                )
            for _ in range(2):
                assert simulator.given_up.acquire(timeout=BOUND)
    finally:
        asking.join()
        for number, handler in old.items():
            signal.signal(number, handler)
