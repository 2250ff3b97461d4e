"""Action masks of requests as an input of an ONNX policy.

Owns their checks: length, dtype, and that something is allowed. Every error names the field and the rule. Must not know
the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from aisandbox.v1 import tensor_pb2
from aisandbox_model_store.served_model import MASK_INPUT
from aisandbox_wire import Leaf, MaskLayout, decode_tensor
from numpy.typing import NDArray

from aisandbox_inference.errors import InvalidField

_ACTIONS, _ROWS = "action_mask", "action_masks"


class Masks:
    """The masks of one policy; ``size`` values each, 0 if it takes none."""

    def __init__(self, size: int, action: Leaf) -> None:
        """Raises ValueError for a size that is not that of the masks of ``action``."""
        self.size = size
        self._layout = MaskLayout.of(action) if size else MaskLayout(())
        if self._layout.width != size:
            raise ValueError(f"mask_size is {size}, and the actions have masks of {self._layout.width}")

    def from_flags(self, mask: Sequence[bool]) -> dict[str, NDArray[Any]]:
        """Return the input for ActRequest.action_mask, uint8 [1, size]. Raises InvalidField, WireError."""
        self._check_size(len(mask), _ACTIONS)
        return self._input(np.array([mask], np.bool_), _ACTIONS)

    def from_tensor(self, tensor: tensor_pb2.Tensor, count: int) -> dict[str, NDArray[Any]]:
        """Return the input for ActBatchRequest.action_masks, uint8 [count, size]. Raises InvalidField, WireError."""
        masks = decode_tensor(tensor, _ROWS)
        self._check_size(masks.shape[-1] if masks.ndim else 0, _ROWS)
        if masks.shape != (count, self.size):
            raise InvalidField(_ROWS, f"has shape {list(masks.shape)}, expected {[count, self.size]}")
        if masks.dtype not in (np.bool_, np.uint8):
            raise InvalidField(_ROWS, f"has dtype {masks.dtype.name}, expected bool or uint8")
        if masks.dtype == np.uint8 and (masks > 1).any():
            raise InvalidField(_ROWS, "has a value that is neither 0 nor 1")
        return self._input(masks.astype(np.bool_, copy=False), _ROWS)

    def _check_size(self, size: int, field: str) -> None:
        if not self.size:
            rule = "is set, and the model takes none: it was not trained with masks (mask_size of DescribeModel is 0)"
            raise InvalidField(field, rule)
        if size != self.size:
            raise InvalidField(field, f"has {size} values, and the masks of the model have {self.size}")

    def _input(self, masks: NDArray[np.bool_], field: str) -> dict[str, NDArray[Any]]:
        self._layout.check(masks, field)
        return {MASK_INPUT: masks.view(np.uint8)}
