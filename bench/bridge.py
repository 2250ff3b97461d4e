"""The bridge alone: how fast batches of steps go to a simulator that costs nothing, and to several that cost time.

Table 1: round trips with the bytes of a cart-pole's batch, between two processes: raw TCP (the same bytes, not
parsed), a session as the trainer uses it, the same over gRPC's public streams, and one unary call a step. The ways
take turns in short windows, and the medians of the windows are compared, so that a disturbance hits all alike.

It is measured twice, because the ratio to raw TCP depends on it: "free" leaves the placing of the processes to the
scheduler, "apart" gives client and servers processors of their own. Raw TCP is the slower the
more often a message wakes another processor. Read both.

Table 2: eight environments that need 5 ms a step: at one address that steps them one after the other, at one each of
eight addresses whose steps are in flight together, the same bytes to and from eight processes over raw TCP, and what
eight simulations at once could do at best.

    python bench/bridge.py [--seconds 2] [--json]
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc(few_connections=True)  # as the programs do, before gRPC is imported

import grpc
import numpy as np
import structlog
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.calls import open_session_stream
from aisandbox_environment.channels import CLIENT_OPTIONS, SERVER_OPTIONS
from aisandbox_environment.reply_reader import ReplyReader
from aisandbox_environment.server import create_environment_server
from aisandbox_environment.session import SimulatorSession
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_environment.simulation import ResetResult, StepResult
from aisandbox_environment.spec import read_spec
from aisandbox_wire.tensors import encode_tensor
from rich.console import Console
from rich.table import Table

ENVIRONMENTS = (1, 8, 32)
WINDOW_SECONDS = 0.2
SLOW_STEP_SECONDS = 0.005
COPIES = 8

SPEC = read_spec(
    pb.EnvironmentSpec(
        observation_space=tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[4])),
        action_space=tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=2)),
    )
)


class Still:
    """A simulation in which nothing ever happens: all that is measured is the way there and back."""

    name, version, spec = "still", "", SPEC

    def __init__(self, environments: int = 1) -> None:
        self.observations = [np.random.default_rng(0).normal(size=(environments, 4)).astype(np.float32)]
        self.rewards = np.ones(environments, np.float32)
        self.ends = np.zeros(environments, np.bool_)

    def make(self, environments: int, _options: Mapping[str, Any]) -> Still:
        """See Simulation."""
        return Still(environments)

    def reset(self, _seeds: Sequence[int] | None) -> ResetResult:
        """See SimulationBatch."""
        return ResetResult(self.observations)

    def step(self, _actions: np.ndarray) -> StepResult:
        """See SimulationBatch."""
        return StepResult(self.observations, self.rewards, self.ends, self.ends)

    def close(self) -> None:
        """Nothing is held."""


class Slow(FakeExternalEnvAdapter):
    """A simulation that needs 5 ms a step and no processor here: a game engine on another machine."""

    def step(self, action: Any) -> Any:
        """Wait, then move."""
        time.sleep(SLOW_STEP_SECONDS)
        return super().step(action)


def messages(environments: int) -> tuple[bytes, bytes]:
    """A request and its reply, as they travel."""
    session = SessionHandler(Still(), Capacity(0))
    step = pb.SimulatorRequest(step=pb.StepRequest(actions=encode_tensor(np.zeros(environments, np.int64))))
    opening = pb.OpenRequest(protocol_version=1, environments=environments)
    session.handle(pb.SimulatorRequest(open=opening).SerializeToString())
    session.handle(pb.SimulatorRequest(reset=pb.ResetRequest()).SerializeToString())
    request = step.SerializeToString()
    return request, session.handle(request)


def keep_quiet() -> None:
    """Only warnings in the log."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def serve_tcp(ready: Connection, slow: bool = False) -> None:
    """Answers as many bytes as a step has with as many as its reply has."""
    keep_quiet()
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(listener.getsockname()[1])
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request, reply = messages(int.from_bytes(peer.recv(1)))
        while exchange_bytes(peer, len(request)):
            if slow:
                time.sleep(SLOW_STEP_SECONDS)
            peer.sendall(reply)


def exchange_bytes(peer: socket.socket, size: int) -> bool:
    """Read ``size`` bytes; false when the peer has left."""
    while size:
        data = peer.recv(size)
        if not data:
            return False
        size -= len(data)
    return True


def serve_sessions(ready: Connection, slow: bool = False, direct: bool = True) -> None:
    """An EnvironmentService."""
    keep_quiet()
    server = create_environment_server(AdapterSimulation(Slow) if slow else Still(), direct=direct)
    server.start()
    ready.send(server.port)
    server.wait()


def serve_unary(ready: Connection) -> None:
    """One call a step: the same messages and the same work, without a stream. One session at a time."""
    keep_quiet()
    sessions = [SessionHandler(Still(), Capacity(0))]

    def call(request: bytes, _context: grpc.ServicerContext) -> bytes:
        if pb.SimulatorRequest.FromString(request).WhichOneof("request") == "open":
            sessions[0] = SessionHandler(Still(), Capacity(0))
        return sessions[0].handle(request)

    server = grpc.server(ThreadPoolExecutor(4), options=SERVER_OPTIONS)
    handlers: dict[str, Any] = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Unary", handlers),))
    ready.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def run_on(processors: set[int], target: Callable[..., None], *arguments: Any) -> None:
    """Runs ``target`` on these processors; on any, if there are none."""
    if processors:
        os.sched_setaffinity(0, processors)
    target(*arguments)


_STARTING = threading.Lock()
"""The variables of a child are those of this process when it starts."""


@contextmanager
def process(
    target: Callable[..., None], *arguments: Any, processors: set[int], environ: Mapping[str, str] | None = None
) -> Iterator[Any]:
    """Runs a server in a process of its own; gives what it says when it is ready, mostly its port.

    ``environ``: variables that only this process has.
    """
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    child = context.Process(target=run_on, args=(processors, target, its, *arguments), daemon=True)
    with _STARTING, mock.patch.dict(os.environ, environ or {}):
        child.start()
    try:
        if not mine.poll(180):
            raise RuntimeError(f"{target.__name__} did not start within 180 s")
        yield mine.recv()
    finally:
        child.kill()
        child.join()


Step = Callable[[], object]


def tcp_step(ports: Sequence[int], environments: int, stack: ExitStack) -> Step:
    """Sends to all, then receives from all."""
    peers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for port in ports]
    request, reply = messages(environments)
    for peer in peers:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(bytes([environments]))

    def step() -> None:
        for peer in peers:
            peer.sendall(request)
        for peer in peers:
            if not exchange_bytes(peer, len(reply)):
                raise RuntimeError("the TCP server has left")

    return step


def session_step(port: int, environments: int, stack: ExitStack, direct: bool = True) -> Step:
    stream = functools.partial(open_session_stream, direct=direct)
    session = stack.enter_context(SimulatorSession.connect(f"127.0.0.1:{port}", environments, stream=stream))
    session.reset()
    actions = np.zeros(environments, np.int64)
    return lambda: session.step(actions)


def unary_step(port: int, environments: int, stack: ExitStack) -> Step:
    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", CLIENT_OPTIONS))
    call: Any = channel.unary_unary("/bench.Unary/Call")
    opening = pb.OpenRequest(protocol_version=1, environments=environments)
    call(pb.SimulatorRequest(open=opening).SerializeToString())
    call(pb.SimulatorRequest(reset=pb.ResetRequest()).SerializeToString())
    reader = ReplyReader(SPEC, environments)
    actions = np.zeros(environments, np.int64)

    def step() -> StepResult:
        request = pb.SimulatorRequest(step=pb.StepRequest(actions=encode_tensor(actions)))
        return reader.step(pb.SimulatorReply.FromString(call(request.SerializeToString())).step)

    return step


def window(step: Step, seconds: float) -> float:
    """Round trips a second."""
    begun = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - begun) < seconds:
        step()
        count += 1
    return count / elapsed


def medians(ways: Mapping[str, Step], seconds: float) -> dict[str, float]:
    """The median rate of each way; ``seconds`` each, in windows that take turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        window(step, WINDOW_SECONDS)
    for _ in range(max(3, round(seconds / WINDOW_SECONDS))):
        for name, step in ways.items():
            rates[name].append(window(step, WINDOW_SECONDS))
    return {name: statistics.median(rate) for name, rate in rates.items()}


def measure_bridge(seconds: float, servers: set[int]) -> list[dict[str, Any]]:
    """One row for each number of environments and each way; ``servers`` are the processors of the servers."""
    rows = []
    with (
        process(serve_tcp, processors=servers) as tcp,
        process(serve_sessions, processors=servers) as direct,
        process(serve_sessions, False, False, processors=servers) as public,
        process(serve_unary, processors=servers) as unary,
    ):
        for n in ENVIRONMENTS:
            with ExitStack() as stack:
                ways = {
                    "raw TCP": tcp_step([tcp], n, stack),
                    "session": session_step(direct, n, stack),
                    "session, public gRPC": session_step(public, n, stack, direct=False),
                    "unary calls": unary_step(unary, n, stack),
                }
                rates = medians(ways, seconds)
            for way, rate in rates.items():
                row = {"environments": n, "way": way, "round_trips_per_second": rate, "steps_per_second": rate * n}
                rows.append(row | {"of_raw_tcp": rate / rates["raw TCP"]})
    return rows


def several_step(ports: Sequence[int], each: int, stack: ExitStack) -> Step:
    """Sends to all, then receives from all, as the trainer's VecEnv does."""
    sessions = [stack.enter_context(SimulatorSession.connect(f"127.0.0.1:{port}", each)) for port in ports]
    for session in sessions:
        session.reset()
    actions = np.zeros(each, np.int64)

    def step() -> None:
        for session in sessions:
            session.send_step(actions)
        for session in sessions:
            session.receive_step()

    return step


def measure_copies(seconds: float) -> list[dict[str, Any]]:
    """One row for one address, one for several, and one for several without gRPC."""
    with ExitStack() as servers:
        ports = [servers.enter_context(process(serve_sessions, True, processors=set())) for _ in range(COPIES)]
        tcp = [servers.enter_context(process(serve_tcp, True, processors=set())) for _ in range(COPIES)]
        ways: dict[str, Callable[[ExitStack], Step]] = {
            "1 address": lambda stack: several_step(ports[:1], COPIES, stack),
            f"{COPIES} addresses": lambda stack: several_step(ports, 1, stack),
            f"{COPIES} over raw TCP": lambda stack: tcp_step(tcp, 1, stack),
        }
        rates = {}
        for name, way in ways.items():
            with ExitStack() as stack:
                step = way(stack)
                window(step, WINDOW_SECONDS)
                rates[name] = window(step, seconds)
    rates["at best"] = 1 / SLOW_STEP_SECONDS
    return [
        {
            "way": way,
            "steps_per_second": rate * COPIES,
            "speed_up": rate / rates["1 address"],
            "of_best": rate / rates["at best"],
        }
        for way, rate in rates.items()
    ]


def show(bridge: list[dict[str, Any]], copies: list[dict[str, Any]]) -> None:
    console = Console()
    table = Table(title="The bridge alone: cart-pole's bytes, a simulation that costs nothing")
    for column in ("placed", "environments", "way", "round trips/s", "us each", "steps/s", "of raw TCP"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in bridge:
        rate = row["round_trips_per_second"]
        cells = f"{rate:,.0f}", f"{1e6 / rate:,.0f}", f"{row['steps_per_second']:,.0f}", f"{row['of_raw_tcp']:.2f}"
        table.add_row(
            row["placement"], str(row["environments"]), row["way"], *cells, end_section=row["way"] == "unary calls"
        )
    console.print(table)
    table = Table(title=f"{COPIES} environments that need {SLOW_STEP_SECONDS * 1000:g} ms a step")
    for column in ("way", "steps/s", "speed-up", "of best"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in copies:
        table.add_row(row["way"], f"{row['steps_per_second']:,.0f}", f"{row['speed_up']:.2f}", f"{row['of_best']:.2f}")
    console.print(table)


def halves() -> tuple[set[int], set[int]]:
    """The processors of the client and those of the servers; none where they cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return set(), set()
    available = sorted(os.sched_getaffinity(0))
    half = len(available) // 2
    return (set(available[:half]), set(available[half:])) if half else (set(), set())


@contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """Only these processors, for as long; any, if there are none."""
    before = os.sched_getaffinity(0) if to else to
    if to:
        os.sched_setaffinity(0, to)
    yield
    if to:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each way is measured")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    keep_quiet()
    bridge = [row | {"placement": "free"} for row in measure_bridge(arguments.seconds, set())]
    ours, theirs = halves()
    if ours:
        with pinned(ours):
            bridge += [row | {"placement": "apart"} for row in measure_bridge(arguments.seconds, theirs)]
    copies = measure_copies(arguments.seconds)
    if arguments.json:
        print(json.dumps({"bridge": bridge, "copies": copies}))
    else:
        show(bridge, copies)


if __name__ == "__main__":
    main()
