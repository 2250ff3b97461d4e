"""Whether a policy's weights are still numbers. Must not know what is done about it."""

from __future__ import annotations

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer.errors import NonFiniteTraining


def check_finite(model: BaseAlgorithm) -> None:
    """Raises NonFiniteTraining if a weight is NaN or infinite (or so large that their sum is)."""
    with torch.no_grad():
        total = torch.stack([parameter.detach().sum() for parameter in model.policy.parameters()]).sum()
    if not torch.isfinite(total):
        raise NonFiniteTraining(
            f"the policy's weights became NaN or infinite after {model.num_timesteps} steps; try a lower learning_rate "
            "or max_grad_norm, normalize=True, or rewards of a smaller scale"
        )
