"""Which algorithms and policies fit which spaces, checked before anything is built.

Owns the sentences that say why a combination cannot work. Must not know how environments or models are made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from aisandbox_crds.spec import Algorithm
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from aisandbox_trainer.errors import InvalidHyperparameter, UnsupportedActionSpace

Space = gym.Space[Any]

SMALLEST_IMAGE = 36
"""Pixels of a side that SB3's NatureCNN needs at least."""


def check_actions(algorithm: Algorithm, action_space: Space) -> None:
    """Raises UnsupportedActionSpace if the algorithm cannot choose from ``action_space``."""
    if algorithm is Algorithm.DQN and not isinstance(action_space, spaces.Discrete):
        raise UnsupportedActionSpace(
            f"DQN chooses one of n actions and needs a Discrete action space, the environment has {action_space}; "
            "use PPO or A2C"
        )


def choose_policy(given: str | None, observation_space: Space) -> str:
    """The policy class for what is observed: the given one if it fits, else the one that does.

    ``given`` None chooses MlpPolicy for vectors, CnnPolicy for images (uint8, height x width x channels) and
    MultiInputPolicy for a Dict. Raises InvalidHyperparameter.
    """
    is_dict = isinstance(observation_space, spaces.Dict)
    if given is None:
        return "MultiInputPolicy" if is_dict else "CnnPolicy" if is_image(observation_space) else "MlpPolicy"
    if is_dict != (given == "MultiInputPolicy"):
        rule = "a Dict needs MultiInputPolicy" if is_dict else "MultiInputPolicy needs a Dict"
        raise InvalidHyperparameter(
            f"hyperparameters.policy: {rule}, got {given} and the observation space {observation_space}; omit policy "
            "to choose it automatically"
        )
    if given == "CnnPolicy" and not is_image(observation_space):
        raise InvalidHyperparameter(
            "hyperparameters.policy: CnnPolicy needs images (a uint8 Box, 0 to 255, height x width x channels, at "
            f"least {SMALLEST_IMAGE} pixels a side), the observation space is {observation_space}; use MlpPolicy"
        )
    if given == "MlpPolicy" and is_image(observation_space):
        raise InvalidHyperparameter(
            f"hyperparameters.policy: the observations are images, {observation_space.shape}; use CnnPolicy, or "
            "omit policy to choose it automatically"
        )
    return given


def is_image(space: Space) -> bool:
    """Whether ``space`` is one of images, which CnnPolicy takes."""
    if not is_image_space(space):
        return False
    shape = space.shape or ()
    return len(shape) == 3 and sorted(shape)[1] >= SMALLEST_IMAGE  # the smallest extent is that of the channels
