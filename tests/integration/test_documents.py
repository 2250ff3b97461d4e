"""The code that documents show, run as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.compliance import check_simulator
from aisandbox_environment.server import create_environment_server

DOCS = Path(__file__).parents[2] / "docs"


def _python_of(name: str) -> dict[str, Any]:
    code = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S)
    namespace: dict[str, Any] = {"__name__": name}
    exec("\n".join(code), namespace)
    return namespace


def test_simulator_of_the_documents_keeps_the_contract() -> None:
    corridor = _python_of("simulators.md")["Corridor"]
    with create_environment_server(AdapterSimulation(corridor), host="127.0.0.1", port=0) as server:
        results = check_simulator(server.address)
    assert len(results) > 20
    assert [result for result in results if not result.ok] == []


async def test_adapter_of_the_documents_is_trained_against_in_the_service(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(models_dir=tmp_path, grpc_port=port, trainer_launcher="process")
    serving = asyncio.create_task(_python_of("simulators.md")["serve"](settings))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = PolicyTrainerServiceStub(channel)
        request = pb.TrainingRequest(experiment_id="corridor", total_timesteps=64, hyperparameters={"n_steps": "64"})
        run = (await stub.StartTrainingPPO(request, wait_for_ready=True, timeout=60)).run_id
        last = [status async for status in stub.WatchTraining(pb.WatchTrainingRequest(run_id=run))][-1]
    assert (last.phase, last.timesteps_done) == (pb.PHASE_SUCCEEDED, 64), last
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 60)
