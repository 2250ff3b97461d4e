"""Which algorithms and policies fit which spaces, checked before anything is built.

Owns the sentences that say why a combination cannot work. Must not know how environments or models are made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from aisandbox_crds import (
    SMALLEST_IMAGE,
    Algorithm,
    DeclaredLeaf,
    DeclaredSpace,
    Hyperparameters,
    actions_problem,
    fitting_policy,
    masks_problem,
    policy_problem,
    space_errors,
)
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from aisandbox_trainer.errors import InvalidHyperparameter, UnsupportedActionSpace

Space = gym.Space[Any]


def check_actions(algorithm: Algorithm, action_space: Space) -> None:
    """Raises UnsupportedActionSpace if the algorithm cannot choose from ``action_space``."""
    if problem := actions_problem(algorithm, declared_space(action_space)):
        raise UnsupportedActionSpace(f"the actions of the environment: {problem}")


def check_masks(algorithm: Algorithm, masks: bool) -> None:
    """Raises UnsupportedActionSpace if the algorithm needs masks that are not declared, or cannot obey them."""
    if problem := masks_problem(algorithm, masks):
        raise UnsupportedActionSpace(f"the actions of the environment: {problem}")


def check_hyperparameters(
    algorithm: Algorithm, hyperparameters: Hyperparameters, observation_space: Space, action_space: Space
) -> None:
    """Raises InvalidHyperparameter for those that do not fit the environment's own spaces, as a start call refuses."""
    observations, actions = declared_space(observation_space), declared_space(action_space)
    if errors := list(space_errors(algorithm, hyperparameters, observations, actions)):
        raise InvalidHyperparameter("; ".join(map(str, errors)))


def choose_policy(algorithm: Algorithm, given: str | None, observation_space: Space) -> str:
    """The algorithm's policy class for what is observed: the given one if it fits, else the one that does.

    ``given`` None chooses that for vectors, images (uint8, height x width x channels) or a Dict. Raises
    InvalidHyperparameter.
    """
    observations = declared_space(observation_space)
    fitting = fitting_policy(algorithm, observations)
    problem = policy_problem(algorithm, given, observations)
    if problem or fitting is None:
        raise InvalidHyperparameter(f"hyperparameters.policy: {problem}")
    return fitting


def declared_space(space: Space) -> DeclaredSpace:
    """A space that SB3 takes, as :mod:`aisandbox_crds.space_rules` takes it."""
    if isinstance(space, spaces.Dict):
        return DeclaredSpace(tuple(_declared_leaf(key, inner) for key, inner in space.spaces.items()), is_dict=True)
    return DeclaredSpace((_declared_leaf("", space),), is_dict=False)


def _declared_leaf(key: str, space: Space) -> DeclaredLeaf:
    kinds = {spaces.Discrete: "discrete", spaces.MultiDiscrete: "multi_discrete", spaces.MultiBinary: "multi_binary"}
    kind = next((kind for cls, kind in kinds.items() if isinstance(space, cls)), "box")
    pixels = isinstance(space, spaces.Box) and bool((space.low == 0).all() and (space.high == 255).all())
    return DeclaredLeaf(key, kind, np.dtype(space.dtype).name, space.shape or (), pixels)


def is_image(space: Space) -> bool:
    """Whether ``space`` is one of images, which CnnPolicy takes."""
    return is_image_space(space) and fits_nature_cnn(space)


def fits_nature_cnn(space: Space) -> bool:
    """Whether the pictures of ``space``, with three extents, are large enough for NatureCNN.

    SB3 takes the smallest extent for the channels if it is the first, and else the last one for them.
    """
    shape = space.shape or ()
    sides = shape[1:] if shape[0] == min(shape) else shape[:2]
    return min(sides) >= SMALLEST_IMAGE
