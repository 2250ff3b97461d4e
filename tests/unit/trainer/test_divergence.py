"""Weights and statistics of layers that are no finite numbers are found, whatever the policy has of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch as th
from aisandbox_trainer.algorithms.divergence import check_finite
from aisandbox_trainer.errors import NonFiniteTraining
from sb3_contrib import CrossQ


def test_statistics_of_layers_that_are_no_numbers_are_found() -> None:
    model: Any = CrossQ("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu", policy_kwargs={"net_arch": [8]})
    check_finite(model)
    statistics = next(each for each in model.actor.buffers() if each.is_floating_point())
    with th.no_grad():
        statistics[0] = float("nan")
    with pytest.raises(NonFiniteTraining, match="a lower learning_rate, normalize"):  # it has no max_grad_norm
        check_finite(model)
