"""Which of SB3's features extractors only reshape: without weights and modes, one pass serves many updates."""

from __future__ import annotations

from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import nn


def has_plain_features(extractor: nn.Module) -> bool:
    """Whether ``extractor`` is one of SB3's and has no weights (a CombinedExtractor of images has)."""
    return type(extractor) in (FlattenExtractor, CombinedExtractor) and not any(True for _ in extractor.parameters())
