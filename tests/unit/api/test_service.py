import asyncio
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_api import Settings
from aisandbox_api.local import LocalBackend
from aisandbox_api.training_servicer import TrainingServicer
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_model_store import RunStore


async def test_start_that_is_still_being_checked_ends_with_the_service(tmp_path: Path) -> None:
    checking, ended = asyncio.Event(), asyncio.Event()

    async def check(spec: TrainingRunSpec) -> None:
        checking.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    backend = LocalBackend(Settings(models_dir=tmp_path))
    calls = TrainingServicer(backend, RunStore(tmp_path), Random(1), check=check)
    request = pb.TrainingRequest(experiment_id="lander", total_timesteps=100)
    context: Any = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:40000")
    call = asyncio.create_task(calls.StartTrainingPPO(request, context))
    async with asyncio.timeout(60):
        await checking.wait()
        await calls.close()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert ended.is_set()
