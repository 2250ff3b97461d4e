"""Action masks: how many values a mask of an action space has, and what is a mask.

The layout is that of StepReply.action_masks in environment.proto: one value for each choice of each dimension, one
dimension after the other. Must not know who sends masks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from aisandbox_wire.errors import InvalidValue
from aisandbox_wire.spaces import Leaf
from aisandbox_wire.tensors import Array

MASKS_METHOD = "action_masks"
"""A Gymnasium environment with this method has masks: it returns which actions are allowed now, as sb3-contrib asks."""


@dataclass(frozen=True, slots=True)
class MaskLayout:
    """The mask of one action: ``counts`` are the choices of each dimension; none for actions that have no masks."""

    counts: tuple[int, ...]

    @classmethod
    def of(cls, action: Leaf) -> MaskLayout:
        """That of an action space: Discrete, MultiDiscrete or MultiBinary (of each element: 0, then 1)."""
        if action.kind == "discrete":
            return cls((action.n,))
        if action.nvec is not None:
            return cls(tuple(action.nvec.tolist()))  # Python's numbers, whose sum does not overflow
        return cls((2,) * action.n if action.kind == "multi_binary" else ())

    @property
    def width(self) -> int:
        """The number of values of a mask."""
        return sum(self.counts)

    def check(self, masks: Array, field: str, row: str = "row", first: int = 0) -> None:
        """Raise InvalidValue, naming ``field``, unless each mask of bool [N, width] allows a value in each dimension.

        ``row``: what the number of a mask is called; that of the first one is ``first``.
        """
        if len(self.counts) == 1:
            allowed = masks.any(axis=1)
            if not allowed.all():
                number = first + int(np.argmin(allowed))
                raise InvalidValue(field, f"the mask of {row} {number} allows no action; at least one must be allowed")
            return
        starts = (0, *itertools.accumulate(self.counts[:-1]))
        each = np.logical_or.reduceat(masks, starts, axis=1)
        if not each.all():
            index, dimension = (int(i) for i in np.argwhere(~each)[0])
            what = f"the mask of {row} {first + index} allows no value of dimension {dimension}"
            raise InvalidValue(field, f"{what}; at least one of each must be allowed")

    def read(self, mask: Any, field: str) -> Array:
        """One mask as bool [width], of numbers or bools 0 and 1, in any shape with ``width`` elements in C order.

        Raises InvalidValue, naming ``field``.
        """
        try:
            array = np.asarray(mask)
        except ValueError as error:  # of sequences of different lengths
            raise InvalidValue(field, f"is no array of {self.width} values, each 0 or 1") from error
        if array.size != self.width or array.dtype.kind not in "biuf":
            raise InvalidValue(
                field, f"has {array.size} values of {array.dtype}; the actions need {self.width}, each 0 or 1"
            )
        allowed = array.astype(np.bool_)
        if array.dtype.kind != "b" and not (array == allowed).all():
            raise InvalidValue(field, "has a value that is neither 0 nor 1")
        return allowed.reshape(-1)
