"""Programs that misuse a pool of simulators: registrations of every kind, and trainers that do not read.

Must not know what the service answers.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from aisandbox.v1 import environment_pb2, environment_pb2_grpc, simulator_pool_pb2, simulator_pool_pb2_grpc, tensor_pb2

OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
SECONDS = 60.0


def spec_of(width: int, actions: int = 2) -> environment_pb2.EnvironmentSpec:
    """The spec of a simulator of the fault suite (faulty_simulator.py), or one like it."""
    spec = environment_pb2.EnvironmentSpec()
    spec.observation_space.box.dtype = tensor_pb2.DATA_TYPE_FLOAT32
    spec.observation_space.box.shape.append(width)
    spec.action_space.discrete.n = actions
    return spec


def registration(pool: str, instance: str, **fields: Any) -> simulator_pool_pb2.RegisterSimulator:
    """A registration that is right but for ``fields``."""
    values: dict[str, Any] = {"protocol_version": 1, "environments": 2, "spec": spec_of(4), **fields}
    return simulator_pool_pb2.RegisterSimulator(pool=pool, instance=instance, **values)


class Peer:
    """One stream of Attach that registers, and answers nothing."""

    def __init__(self, channel: grpc.Channel, register: simulator_pool_pb2.RegisterSimulator) -> None:
        self._sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sent.put(simulator_pool_pb2.AttachRequest(register=register))
        stub: Any = simulator_pool_pb2_grpc.SimulatorPoolServiceStub(channel)
        self._call = stub.Attach(iter(self._sent.get, None), timeout=SECONDS)

    def refusal(self) -> tuple[grpc.StatusCode, str] | None:
        """What it is told; None if it has got a place."""
        try:
            next(self._call)
        except grpc.RpcError:
            return self._call.code(), self._call.details()
        return None

    def leave(self) -> None:
        """Leaves the pool."""
        self._sent.put(None)
        self._call.cancel()


@contextmanager
def silent_trainer(address: str, metadata: tuple[tuple[str, str], ...], steps: int) -> Iterator[None]:
    """A trainer that has a session, sends ``steps`` steps ahead and reads no reply but the first."""
    open_ = environment_pb2.OpenRequest(protocol_version=1, environments=2, run_id="silent")
    step = environment_pb2.StepRequest()
    step.actions.dtype = tensor_pb2.DATA_TYPE_INT64
    step.actions.shape.append(2)
    step.actions.data = bytes(16)
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sent.put(environment_pb2.SimulatorRequest(open=open_))
    with grpc.insecure_channel(address, OPTIONS) as channel:
        stub: Any = environment_pb2_grpc.EnvironmentServiceStub(channel)
        call = stub.Session(iter(sent.get, None), metadata=metadata, timeout=SECONDS)
        next(call)
        sent.put(environment_pb2.SimulatorRequest(reset=environment_pb2.ResetRequest()))
        for _ in range(steps):
            sent.put(environment_pb2.SimulatorRequest(step=step))
        try:
            yield
        finally:
            sent.put(None)
            call.cancel()
