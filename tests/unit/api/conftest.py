"""A run to change."""

import pytest
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun


@pytest.fixture
def run() -> TrainingRun:
    spec = TrainingRunSpec(Algorithm.PPO, total_timesteps=1000, seed=1, backoff_limit=2)
    return TrainingRun("lander-b", spec, creation_time="2025-01-01T00:00:00.000000Z")
