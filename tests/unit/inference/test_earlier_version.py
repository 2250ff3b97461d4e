"""The models of earlier versions."""

from pathlib import Path

import numpy as np
import pytest
from aisandbox_inference.policy import Policy
from aisandbox_model_store import RunStore

DATA = Path(__file__).parent / "data"
"""A run whose model was exported before the trainer's modules were in folders (commit a6e9a5c)."""
RUN = "ppo-cartpole-v1-hlpl594dl2"


@pytest.mark.parametrize("selector", ["", "latest", "best", "step:16000"])
def test_model_of_an_earlier_version_is_served(selector: str) -> None:
    policy = Policy(RUN, RunStore(DATA).run(RUN).load_model(selector), np.random.default_rng(0))
    (name,) = policy.observations.input_types
    falling_right = np.array([[0, 0, 0.2, 1], [0, 0, -0.2, -1]], np.float32)
    np.testing.assert_array_equal(policy.act({name: falling_right}, 2, False), [1, 0])
