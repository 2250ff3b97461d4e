"""A run to change, and an API server of Kubernetes to call."""

from collections.abc import AsyncIterator

import pytest
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun
from fake_kubernetes import FakeKubernetes


@pytest.fixture
def run() -> TrainingRun:
    spec = TrainingRunSpec(Algorithm.PPO, total_timesteps=1000, seed=1, backoff_limit=2)
    return TrainingRun("lander-b", spec, creation_time="2025-01-01T00:00:00.000000Z")


@pytest.fixture
async def api() -> AsyncIterator[FakeKubernetes]:
    api = FakeKubernetes()
    await api.start()
    yield api
    await api.stop()
