from typing import Any

import numpy as np
import pytest
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.spec import Algorithm
from aisandbox_trainer.algorithms.policy_choice import check_actions, check_hyperparameters, choose_policy
from aisandbox_trainer.errors import InvalidHyperparameter, UnsupportedActionSpace
from gymnasium import spaces

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (48, 64, 3), np.uint8)
NAMED = spaces.Dict({"a": VECTOR, "b": IMAGE})


@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (VECTOR, "MlpPolicy"),
        (spaces.Discrete(4), "MlpPolicy"),
        (IMAGE, "CnnPolicy"),
        (spaces.Box(0, 255, (3, 48, 64), np.uint8), "CnnPolicy"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), "MlpPolicy"),
        (NAMED, "MultiInputPolicy"),
    ],
)
def test_policy_is_chosen_by_what_is_observed(space: spaces.Space[Any], policy: str) -> None:
    assert choose_policy(Algorithm.PPO, None, space) == policy


@pytest.mark.parametrize(
    ("given", "space"),
    [
        ("MlpPolicy", IMAGE),
        ("CnnPolicy", VECTOR),
        ("CnnPolicy", NAMED),
        ("MlpPolicy", NAMED),
        ("MultiInputPolicy", VECTOR),
    ],
)
def test_policy_that_does_not_fit_is_refused_with_what_does(given: str, space: spaces.Space[Any]) -> None:
    with pytest.raises(InvalidHyperparameter, match=r"hyperparameters\.policy: .*(use|omit policy)"):
        choose_policy(Algorithm.PPO, given, space)


def test_policy_that_fits_is_taken() -> None:
    assert choose_policy(Algorithm.PPO, "CnnPolicy", IMAGE) == "CnnPolicy"


@pytest.mark.parametrize("space", [VECTOR, spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)])
def test_dqn_refuses_all_but_discrete_actions(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedActionSpace, match=r"or declare Discrete"):
        check_actions(Algorithm.DQN, space)


def test_hyperparameters_are_checked_against_spaces_as_at_the_start() -> None:
    parsed = parse_hyperparameters(Algorithm.PPO, {"normalize": "dict(norm_obs_keys=['c'])", "frame_stack": "2"})
    with pytest.raises(InvalidHyperparameter) as refused:
        check_hyperparameters(Algorithm.PPO, parsed, NAMED, VECTOR)
    assert "norm_obs_keys names 'c', which is not an entry" in str(refused.value)
    assert "can name 'a'" in str(refused.value)
    check_hyperparameters(Algorithm.PPO, parse_hyperparameters(Algorithm.PPO, {"normalize": "True"}), NAMED, VECTOR)


def test_actions_that_suit_pass() -> None:
    check_actions(Algorithm.DQN, spaces.Discrete(3))
    check_actions(Algorithm.PPO, VECTOR)
