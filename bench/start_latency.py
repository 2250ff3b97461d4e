"""How long it takes from StartTrainingPPO to the first environment step.

Two launchers on the same machine in the same run: "process" starts `python -m aisandbox_trainer run` for each run,
"warm" has it forked by a server that has loaded everything. The simulator is in this process and notes when its
first step arrives, so the way over gRPC to the service, to the trainer and to the simulator is in the figure.

    python bench/start_latency.py [--repetitions 5] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aisandbox_process.grpc_runtime import set_up_grpc

set_up_grpc()  # as the programs do, before gRPC is imported

import grpc
import structlog
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings, create_server
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.backend import create_launcher
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.server import create_environment_server

LONGEST_WAIT_SECONDS = 120.0


class FirstStep:
    """When the first step since :meth:`forget` came, on the clock of time.perf_counter."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.forget()

    def forget(self) -> None:
        """Wait for the next one."""
        self.time: float | None = None
        self.came = asyncio.Event()

    def note(self) -> None:
        """A step has come; called from the simulator's threads."""
        if self.time is None:
            self.time = time.perf_counter()
            self._loop.call_soon_threadsafe(self.came.set)


class NotingAdapter(FakeExternalEnvAdapter):
    """Notes its steps."""

    def __init__(self, first_step: FirstStep | None) -> None:
        super().__init__()
        self._first_step = first_step

    def step(self, action: Any) -> Any:
        """As the fake's."""
        if self._first_step is not None:
            self._first_step.note()
        return super().step(action)


async def measure(launcher: str, repetitions: int) -> dict[str, Any]:
    """Seconds from the start call to the first step, and for "warm" from the service's start until it is warm."""
    first_step = FirstStep()
    simulator = create_environment_server(AdapterSimulation(lambda: NotingAdapter(first_step)))
    simulator.start()
    with tempfile.TemporaryDirectory() as models_dir:
        settings = Settings(
            grpc_port=0,
            models_dir=Path(models_dir),
            trainer_launcher=launcher,
            log_level="error",
            stop_grace_seconds=20,
        )
        trainers = create_launcher(settings)
        server = create_server(settings, backend=LocalBackend(settings, trainers))
        began = time.perf_counter()
        await server.start()
        try:
            await trainers.ready()
            warm_up = time.perf_counter() - began
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = PolicyTrainerServiceStub(channel)
                await channel.channel_ready()
                seconds = [await start_once(stub, simulator.address, first_step) for _ in range(repetitions)]
        finally:
            await server.stop(grace=0)
            await asyncio.to_thread(simulator.stop, 0)
    return {"launcher": launcher, "ready_after_seconds": warm_up, "first_step_seconds": seconds}


async def start_once(stub: Any, simulator: str, first_step: FirstStep) -> float:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=simulator))
    request = pb.TrainingRequest(experiment_id="latency", total_timesteps=10**9, environment=environment)
    first_step.forget()
    began = time.perf_counter()
    run = (await stub.StartTrainingPPO(request)).run_id
    try:
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            await first_step.came.wait()
    except TimeoutError:
        status = await stub.GetTrainingStatus(pb.StatusRequest(run_id=run))
        sys.exit(f"no step within {LONGEST_WAIT_SECONDS:g} s: {status}")
    assert first_step.time is not None
    seconds = first_step.time - began
    await stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))
    async for _ in stub.WatchTraining(pb.WatchTrainingRequest(run_id=run)):
        pass
    return seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    results = [await measure(launcher, arguments.repetitions) for launcher in ("process", "warm")]
    if arguments.json:
        print(json.dumps(results))
        return
    print("From StartTrainingPPO to the first environment step, in seconds")
    print(f"{'launcher':10}{'median':>9}{'fastest':>9}{'slowest':>9}{'ready after':>13}")
    for result in results:
        seconds = result["first_step_seconds"]
        print(
            f"{result['launcher']:10}{statistics.median(seconds):9.3f}{min(seconds):9.3f}{max(seconds):9.3f}"
            f"{result['ready_after_seconds']:13.2f}"
        )
    cold, warm = (statistics.median(result["first_step_seconds"]) for result in results)
    print(f"warm is {cold / warm:.0f} times as fast as a new process")


if __name__ == "__main__":
    asyncio.run(main())
