"""Simulators that attach to the service: how fast their sessions are, and what idle ones cost.

Table 1: steps a second of a session that the service relays to an attached simulator, beside the same session dialled
directly: cart-pole's bytes, a simulation that costs nothing, every process free to run on every processor. "relay" is a
trainer of this machine, which has its sessions over the service's Unix socket; "by gRPC" is one of another machine. The
ways take turns in short windows, and the medians are compared. The last column is the processor time of a relayed step
beside that of a dialled one, of all processes together: on a machine that is busy it says more than the speed.

Table 2: eight simulators that need 5 ms a step, with their steps in flight together: attached, and at eight addresses.

Table 3: what simulators that are attached and wait cost the service: its memory before and after, and its processor
time while nothing happens. Each has a connection of its own, as it has from another machine.

    python bench/relay.py [--seconds 2] [--idle 1000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc(few_connections=True)  # as the programs do, before gRPC is imported

import grpc
import numpy as np
from aisandbox.v1 import simulator_pool_pb2, simulator_pool_pb2_grpc
from aisandbox_api import Settings, create_server
from aisandbox_api.local import LocalBackend
from aisandbox_crds import Algorithm, PoolEnvironment, TrainingRun, TrainingRunSpec
from aisandbox_environment import RUN_METADATA, AdapterSimulation, Attachment, SimulatorSession, open_session_stream
from aisandbox_inference import loop_factory
from bridge import COPIES, ENVIRONMENTS, SPEC, Slow, Step, Still, keep_quiet, medians, process, serve_sessions
from rich.console import Console
from rich.table import Table

POOL = "bench"
TURNS, TURN_STEPS = 8, 250
"""How often each way is measured by its processor time, and how many steps each time."""
IDLE_SECONDS = 10.0
"""How long the processor time of idle simulators is measured."""


class Served(NamedTuple):
    """A service: its port for clients, its process, and its Unix socket for trainers."""

    port: int
    pid: int
    socket: Path | None


class AnyTrainer(LocalBackend):
    """Takes whoever calls for the trainer of a run on the pool. ``socket``: where trainers have sessions."""

    socket: Path | None = None

    async def start(
        self, progress_address: str, adapter_address: str | None, session_socket: Path | None = None
    ) -> None:
        """See Backend."""
        self.socket = session_socket
        await super().start(progress_address, adapter_address, session_socket)

    async def run_of_trainer(self, name: str, token: str | None) -> TrainingRun:
        """See Backend."""
        return TrainingRun(name, TrainingRunSpec(Algorithm.PPO, 1, PoolEnvironment(POOL)))


def serve_service(ready: Connection) -> None:
    """The service, as `aisandbox up` runs it, without its policies."""
    keep_quiet()

    async def serve() -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(grpc_port=0, models_dir=Path(folder), trainer_launcher="process")
            backend = AnyTrainer(settings)
            server = create_server(settings, backend=backend)
            await server.start()
            ready.send(Served(server.port, os.getpid(), backend.socket))
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


@contextlib.contextmanager
def service() -> Iterator[Served]:
    """A service in a process of its own, which waits at its sockets as a server of many clients."""
    with process(serve_service, processors=set(), environ={"GRPC_POLL_STRATEGY": "epoll1"}) as served:
        yield served


def at_once(stack: ExitStack, parts: Sequence[AbstractContextManager[Any]]) -> list[Any]:
    """Enters all at the same time: a process needs seconds to import what it needs."""
    with ThreadPoolExecutor(len(parts)) as threads:
        values = list(threads.map(lambda part: part.__enter__(), parts))
    for part in parts:
        stack.push(part)
    return values


def simulate(ready: Connection, port: int, environments: int, slow: bool = False) -> None:
    """A simulator that attaches."""
    keep_quiet()
    simulation = AdapterSimulation(Slow) if slow else Still()
    attachment = Attachment(simulation, f"127.0.0.1:{port}", POOL, environments=environments)
    attachment.run(lambda _instance: ready.send(0))


def session_step(port: int, environments: int, stack: ExitStack, pool: str = "", socket: Path | None = None) -> Step:
    """One step of a session at the port; ``pool``: of a simulator of that pool, over the socket if there is one."""
    stream = functools.partial(open_session_stream, socket=socket, metadata=((RUN_METADATA, "run"),))
    session = SimulatorSession.connect(f"127.0.0.1:{port}", environments, pool=pool, stream=stream)
    stack.enter_context(session)
    session.reset()
    actions = np.zeros(environments, np.int64)
    return lambda: session.step(actions)


def measure_sessions(seconds: float) -> list[dict[str, Any]]:
    """One row for each number of environments."""
    rows = []
    with ExitStack() as programs:
        direct, served = at_once(programs, [process(serve_sessions, processors=set()), service()])
        for n in ENVIRONMENTS:
            with ExitStack() as stack:
                at_once(stack, [process(simulate, served.port, n, processors=set()) for _ in range(2)])
                ways = {
                    "direct": session_step(direct, n, stack),
                    "relay": session_step(served.port, n, stack, POOL, served.socket),
                    "by_grpc": session_step(served.port, n, stack, POOL),
                }
                rates = medians(ways, seconds)
                spent = processor_times(ways)
            steps = {way: rate * n for way, rate in rates.items()}
            times = {f"processor_{way}": each / spent["direct"] for way, each in spent.items()}
            ratios = {f"ratio_{way}": rates[way] / rates["direct"] for way in ways if way != "direct"}
            rows.append({"environments": n, **steps, **ratios, **times})
    return rows


def processor_times(ways: Mapping[str, Step]) -> dict[str, float]:
    """The processor time of a step of each way in nanoseconds, of this process and its children; medians of turns."""
    spent: dict[str, list[float]] = {way: [] for way in ways}
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
    for _ in range(TURNS):
        for way, step in ways.items():
            before = sum(map(scheduled_nanoseconds, pids))
            for _ in range(TURN_STEPS):
                step()
            spent[way].append((sum(map(scheduled_nanoseconds, pids)) - before) / TURN_STEPS)
    return {way: statistics.median(each) for way, each in spent.items()}


def scheduled_nanoseconds(pid: int) -> int:
    """How long the threads of a process have run, to the nanosecond."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def several_step(sessions: Sequence[SimulatorSession]) -> Step:
    """Sends to all, then receives from all, as the trainer's VecEnv does."""
    for session in sessions:
        session.reset()
    actions = np.zeros(1, np.int64)

    def step() -> None:
        for session in sessions:
            session.send_step(actions)
        for session in sessions:
            session.receive_step()

    return step


def measure_slow(seconds: float) -> dict[str, Any]:
    """Steps a second of eight simulators that need time."""
    with ExitStack() as stack:
        servers = [process(serve_sessions, True, processors=set()) for _ in range(COPIES)]
        served, *ports = at_once(stack, [service(), *servers])
        at_once(stack, [process(simulate, served.port, 1, True, processors=set()) for _ in range(COPIES)])
        connect = SimulatorSession.connect
        dialled = [stack.enter_context(connect(f"127.0.0.1:{each}", 1)) for each in ports]
        attached = [stack.enter_context(connect(f"127.0.0.1:{served.port}", 1, pool=POOL)) for _ in range(COPIES)]
        rates = medians({"dialled": several_step(dialled), "attached": several_step(attached)}, seconds)
    return {way: rate * COPIES for way, rate in rates.items()} | {"ratio": rates["attached"] / rates["dialled"]}


def resident_bytes(pid: int) -> int:
    """The memory of a process that is resident."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid: int) -> float:
    """The processor time of a process, in user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hold_idle(ready: Connection, port: int, count: int) -> None:
    """Attaches simulators, each over a connection of its own, and waits."""

    async def hold() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        held = []
        for number in range(count):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
            call: Any = simulator_pool_pb2_grpc.SimulatorPoolServiceStub(channel).Attach()
            register = simulator_pool_pb2.RegisterSimulator(
                pool=POOL, instance=f"idle-{number}", protocol_version=1, environments=1, spec=SPEC.to_proto()
            )
            await call.write(simulator_pool_pb2.AttachRequest(register=register))
            if await call.read() is grpc.aio.EOF:
                raise RuntimeError(await call.details())
            held.append((channel, call))
        ready.send(count)
        await asyncio.Event().wait()

    asyncio.run(hold())


def measure_idle(count: int, seconds: float) -> dict[str, Any]:
    """The memory and processor time of the service with ``count`` simulators that wait."""
    with service() as (port, pid, _):
        time.sleep(2)  # what starts up is done
        before, spent = resident_bytes(pid), processor_seconds(pid)
        time.sleep(seconds)
        alone = (processor_seconds(pid) - spent) / seconds
        with process(hold_idle, port, count, processors=set()):
            time.sleep(2)
            after, spent = resident_bytes(pid), processor_seconds(pid)
            time.sleep(seconds)
            attached = (processor_seconds(pid) - spent) / seconds
    return {
        "simulators": count,
        "mebibytes": (after - before) / 2**20,
        "kibibytes_each": (after - before) / 2**10 / count,
        "processor_alone": alone,
        "processor_attached": attached,
    }


def show(sessions: list[dict[str, Any]], slow: dict[str, Any], idle: dict[str, Any]) -> None:
    console = Console()
    table = Table(title="A session that the service relays, beside the same dialled directly")
    for column in (
        "environments",
        "direct, steps/s",
        "relay",
        "ratio",
        "by gRPC",
        "ratio",
        "processor time, relay",
        "by gRPC",
    ):
        table.add_column(column, justify="right")
    for row in sessions:
        speeds = f"{row['direct']:,.0f}", f"{row['relay']:,.0f}", f"{row['ratio_relay']:.2f}"
        by_grpc = f"{row['by_grpc']:,.0f}", f"{row['ratio_by_grpc']:.2f}"
        times = f"{row['processor_relay']:.2f}", f"{row['processor_by_grpc']:.2f}"
        table.add_row(str(row["environments"]), *speeds, *by_grpc, *times)
    console.print(table)
    table = Table(title=f"{COPIES} simulators that need 5 ms a step")
    for column in ("at addresses, steps/s", "attached, steps/s", "ratio"):
        table.add_column(column, justify="right")
    table.add_row(f"{slow['dialled']:,.0f}", f"{slow['attached']:,.0f}", f"{slow['ratio']:.2f}")
    console.print(table)
    table = Table(title="Simulators that are attached and wait")
    for column in ("simulators", "MiB", "KiB each", "processor without them", "processor with them"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{idle['simulators']:,}",
        f"{idle['mebibytes']:.0f}",
        f"{idle['kibibytes_each']:.0f}",
        f"{idle['processor_alone']:.2%}",
        f"{idle['processor_attached']:.2%}",
    )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each way is measured")
    parser.add_argument("--idle", type=int, default=1000, help="how many simulators wait")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    keep_quiet()
    sessions = measure_sessions(arguments.seconds)
    slow = measure_slow(arguments.seconds)
    idle = measure_idle(arguments.idle, IDLE_SECONDS)
    if arguments.json:
        print(json.dumps({"sessions": sessions, "slow": slow, "idle": idle}))
    else:
        show(sessions, slow, idle)


if __name__ == "__main__":
    main()
