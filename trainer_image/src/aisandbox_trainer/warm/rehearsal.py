"""A training in miniature, so that a warm process has done once what is slow only the first time."""

from __future__ import annotations

from pathlib import Path

from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm
from aisandbox_environment.adapters import FakeExternalEnvAdapter

from aisandbox_trainer.algorithms.builder import build
from aisandbox_trainer.environments.factory import space_adapter_of
from aisandbox_trainer.environments.in_process import AdapterEnv, vectorized
from aisandbox_trainer.export.model_files import export_model


def rehearse() -> None:
    """Builds, trains and exports a small policy. Leaves no thread behind, since a fork keeps only one."""
    env = vectorized(lambda: AdapterEnv(FakeExternalEnvAdapter()), 1)
    settings = {"n_steps": "16", "batch_size": "16", "n_epochs": "1", "device": "cpu"}
    model = build(Algorithm.PPO, parse_hyperparameters(Algorithm.PPO, settings), "MlpPolicy", env, 0)
    if not Path("/dev/nvidia0").exists():  # with a GPU, the first backward pass starts a thread for it
        model.learn(16)
    shown = space_adapter_of(env)
    export_model(
        model,
        observation_space=shown.inner_observation_space,
        action_space=shown.inner_action_space,
        vec_normalize=None,
        timesteps=0,
    )
    env.close()
