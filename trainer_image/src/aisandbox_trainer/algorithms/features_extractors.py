"""The features of observations that SB3's own extractors cannot take.

Of a Dict, entries by their names, and small pictures: PyTorch allows no name with a dot and none that its ModuleDict
has itself ("type", "keys", "training"), and NatureCNN needs pictures of a certain size. Of a MultiDiscrete, whose
features SB3 counts in NumPy's integers, which PyTorch's LSTM does not take for its size. Owns the names inside the
extractor; outside of it the entries keep theirs. Used only where it is needed, so that a stored policy of other spaces
loads with stable-baselines3 alone. Must not know algorithms.
"""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import torch as th
from aisandbox_crds import SMALLEST_IMAGE
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from aisandbox_trainer.algorithms.policy_choice import fits_nature_cnn


class DictExtractor(BaseFeaturesExtractor):
    """As SB3's CombinedExtractor, with the same arguments, for entries of any name and pictures of any size.

    A picture that is too small for NatureCNN is flattened, as MlpPolicy does with one that is not in a Dict.
    """

    def __init__(
        self, observation_space: spaces.Dict, cnn_output_dim: int = 256, normalized_image: bool = False
    ) -> None:
        super().__init__(observation_space, features_dim=1)
        self.keys = list(observation_space.spaces)
        extractors: list[tuple[str, nn.Module]] = []
        total = 0
        for index, (key, space) in enumerate(observation_space.spaces.items()):
            name = f"{index}_" + re.sub(r"\W", "_", key)
            shape = space.shape or ()
            if is_image_space(space, normalized_image=normalized_image) and min(shape[1:]) >= SMALLEST_IMAGE:
                cnn = NatureCNN(space, features_dim=cnn_output_dim, normalized_image=normalized_image)
                extractors.append((name, cnn))
                total += cnn_output_dim
            else:
                extractors.append((name, nn.Flatten()))
                total += int(get_flattened_obs_dim(space))
        self.extractors = nn.ModuleDict(dict(extractors))
        self._features_dim = total

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        """The features [N, features_dim] of preprocessed entries [N, ...]."""
        parts = zip(self.keys, self.extractors.values(), strict=True)
        return th.cat([extractor(observations[key]) for key, extractor in parts], dim=1)


class PlainCountExtractor(FlattenExtractor):
    """As SB3's FlattenExtractor, with the number of features as a plain int."""

    def __init__(self, observation_space: gym.Space[Any]) -> None:
        super().__init__(observation_space)
        self._features_dim = int(self._features_dim)


def with_fitting_extractor(policy_kwargs: dict[str, Any], space: gym.Space[Any], *, recurrent: bool) -> dict[str, Any]:
    """``policy_kwargs`` with an extractor of this module where their own fails on ``space``.

    ``recurrent``: the features go into an LSTM. The pictures of a Dict are as SB3 gets them, before it transposes them.
    """
    given = policy_kwargs.get("features_extractor_class")
    if isinstance(space, spaces.MultiDiscrete) and recurrent and given in (None, FlattenExtractor):
        return {**policy_kwargs, "features_extractor_class": PlainCountExtractor}
    if given not in (None, CombinedExtractor) or not isinstance(space, spaces.Dict):
        return policy_kwargs
    if recurrent and any(isinstance(entry, spaces.MultiDiscrete) for entry in space.spaces.values()):
        return {**policy_kwargs, "features_extractor_class": DictExtractor}
    normalized = bool(policy_kwargs.get("features_extractor_kwargs", {}).get("normalized_image", False))
    taken = nn.ModuleDict()
    for key, entry in space.spaces.items():
        if not key or "." in key or hasattr(taken, key) or _is_too_small(entry, normalized):
            return {**policy_kwargs, "features_extractor_class": DictExtractor}
    return policy_kwargs


def _is_too_small(space: gym.Space[Any], normalized: bool) -> bool:
    if is_image_space(space):
        return not fits_nature_cnn(space)
    shape = space.shape or ()
    return normalized and is_image_space(space, normalized_image=True) and min(shape[1:]) < SMALLEST_IMAGE
