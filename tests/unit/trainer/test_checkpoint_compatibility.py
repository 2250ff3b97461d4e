"""Checkpoints of earlier versions, which name classes by the modules of their time."""

from pathlib import Path

import numpy as np
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_trainer.algorithms.builder import build, class_of
from aisandbox_trainer.checkpoints.compatibility import current_class_name, load_pickle
from aisandbox_trainer.checkpoints.files import EvaluationResults, TrainingState
from aisandbox_trainer.environments.in_process import AdapterEnv, vectorized
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from stable_baselines3.common.base_class import BaseAlgorithm

FLAT = Path(__file__).parent / "data/state_with_flat_module_paths.pkl"
"""state.pkl of two fake environments, written when all modules of the trainer were in one folder."""


def _model() -> BaseAlgorithm:
    env = vectorized(lambda: AdapterEnv(FakeExternalEnvAdapter()), 2)
    hyperparameters = parse_hyperparameters(Algorithm.PPO, {"n_steps": "16", "batch_size": "16", "device": "cpu"})
    return build(class_of(Algorithm.PPO), hyperparameters, "MlpPolicy", env, 0)


def test_state_with_flat_module_paths_is_read() -> None:
    state = load_pickle(FLAT.read_bytes())
    assert isinstance(state, TrainingState)
    assert state.evaluation_results == EvaluationResults(1.5, 1.25, 32)
    assert state.saved_at == 32
    assert state.lessons is None, "new since"


def test_state_with_flat_module_paths_continues_its_episodes() -> None:
    model, state = _model(), load_pickle(FLAT.read_bytes())
    state.episodes.restore(model)
    state.random.restore(model.action_space, model.get_env())
    np.testing.assert_array_equal(model._last_obs, np.array([[0.85019094], [-0.34605545]], np.float32))
    env = model.get_env()
    assert env is not None
    assert all(isinstance(adapter, SpaceAdapter) for adapter in env.get_attr("space_adapter"))
    assert "presentation" not in vars(env.unwrapped.envs[0].env)  # type: ignore[attr-defined]
    env.step(np.zeros((2, *(model.action_space.shape or ())), np.float32))


def test_renamed_class_of_the_evaluation_results_is_read_under_both_old_names() -> None:
    today = f"{EvaluationResults.__module__}.{EvaluationResults.__qualname__}"
    for old in ("aisandbox_trainer.checkpoints.Ratings", "aisandbox_trainer.checkpoints.files.Ratings"):
        assert current_class_name(old) == today
