"""The tensors and spaces of tensor.proto in NumPy: encoded, decoded, checked.

The names in ``__all__`` are for others; the modules are internal. ``join``, ``split``, ``space_to_proto`` and
``space_from_proto`` need the extra ``gymnasium``. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aisandbox_wire.batches import BatchLeaf
    from aisandbox_wire.errors import InvalidSpace, InvalidTensor, InvalidValue, WireError
    from aisandbox_wire.gymnasium_spaces import join, space_from_proto, space_to_proto, split
    from aisandbox_wire.space_builders import box, dict_space, discrete, multi_binary, multi_discrete
    from aisandbox_wire.spaces import Leaf, leaves
    from aisandbox_wire.tensors import Array, data_type, decode_tensor, encode_tensor, numpy_dtype

_NAMES = {
    "batches": ("BatchLeaf",),
    "errors": ("InvalidSpace", "InvalidTensor", "InvalidValue", "WireError"),
    "gymnasium_spaces": ("join", "space_from_proto", "space_to_proto", "split", "wire_space"),
    "space_builders": ("box", "dict_space", "discrete", "multi_binary", "multi_discrete"),
    "spaces": ("Leaf", "leaves"),
    "tensors": ("Array", "data_type", "decode_tensor", "encode_tensor", "numpy_dtype"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Array",
    "BatchLeaf",
    "InvalidSpace",
    "InvalidTensor",
    "InvalidValue",
    "Leaf",
    "WireError",
    "box",
    "data_type",
    "decode_tensor",
    "dict_space",
    "discrete",
    "encode_tensor",
    "join",
    "leaves",
    "multi_binary",
    "multi_discrete",
    "numpy_dtype",
    "space_from_proto",
    "space_to_proto",
    "split",
    "wire_space",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
