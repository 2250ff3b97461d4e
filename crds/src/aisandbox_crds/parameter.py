"""One hyperparameter: its name, type, default and description. Must not know which there are."""

from __future__ import annotations

from dataclasses import dataclass

from aisandbox_crds.parameter_types import ParameterType
from aisandbox_crds.parameter_values import Value


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A hyperparameter.

    ``default`` is what holds without a value. It is SB3's own and not passed to SB3, unless ``custom``: then it is
    this project's and always passed.
    """

    name: str
    type: ParameterType
    default: Value
    description: str
    custom: bool = False
