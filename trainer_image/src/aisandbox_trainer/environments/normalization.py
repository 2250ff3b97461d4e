"""What VecNormalize normalises of an observation: the vectors, not the pictures, which a policy scales itself.

What cannot be normalised is refused before, by aisandbox_crds.space_rules. Must not know which algorithm trains or
where statistics are stored.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium as gym
from aisandbox_crds import ClassName, Hyperparameters, Normalize
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from aisandbox_trainer.algorithms.policy_choice import is_image


def normalized(env: VecEnv, normalize: Normalize) -> VecNormalize:
    """``env`` with new statistics. Raises ValueError for what cannot be normalised."""
    keywords = asdict(normalize)
    keys = keywords["norm_obs_keys"] = normalized_keys(env.observation_space, normalize)
    if keys is not None and not keys:
        keywords["norm_obs"] = False
    return VecNormalize(env, **keywords)


def normalizes_images(space: gym.Space[Any], hyperparameters: Hyperparameters) -> bool:
    """Whether pictures that a network for images takes are among what is normalised.

    A FlattenExtractor takes any order, and runs of earlier versions have statistics of the simulator's own.
    """
    normalize = hyperparameters.normalize
    extractor = (hyperparameters.keywords.get("policy_kwargs") or {}).get("features_extractor_class")
    if normalize is None or not normalize.norm_obs or extractor == ClassName("FlattenExtractor"):
        return False
    keys = normalized_keys(space, normalize)
    taken = [space] if not isinstance(space, spaces.Dict) else [space.spaces[key] for key in keys or ()]
    return any(map(is_image, taken))


def normalized_keys(space: gym.Space[Any], normalize: Normalize) -> list[str] | None:
    """The entries of a Dict that are normalised: those that were named, else every Box that is no picture.

    None where none were named and ``space`` is no Dict.
    """
    if normalize.norm_obs_keys is not None:
        return list(normalize.norm_obs_keys)
    if not isinstance(space, spaces.Dict):
        return None
    return [key for key, entry in space.spaces.items() if isinstance(entry, spaces.Box) and not is_image_space(entry)]
