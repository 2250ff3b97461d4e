"""The tensors and spaces of tensor.proto in NumPy: encoded, decoded, checked.

The names in ``__all__`` are for others; the modules are internal. ``join``, ``split``, ``space_to_proto`` and
``space_from_proto`` need the extra ``gymnasium``. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aisandbox_wire.action_masks import MASKS_METHOD, MaskLayout
    from aisandbox_wire.algorithm_names import ALGORITHM_NAMES
    from aisandbox_wire.batches import BatchLeaf
    from aisandbox_wire.bounded_messages import bounded_parser, parse_bounded
    from aisandbox_wire.dataclass_messages import dataclass_of, enumerators, message_fields
    from aisandbox_wire.errors import InvalidSpace, InvalidTensor, InvalidValue, OversizedMessage, WireError
    from aisandbox_wire.gymnasium_spaces import (
        join,
        names_of,
        set_names,
        space_from_proto,
        space_to_proto,
        split,
        wire_space,
    )
    from aisandbox_wire.model_health import model_health_service, run_of_health_service
    from aisandbox_wire.noise import NOISE_KINDS, draw_noise
    from aisandbox_wire.space_builders import box, dict_space, discrete, multi_binary, multi_discrete
    from aisandbox_wire.space_words import form_of
    from aisandbox_wire.spaces import (
        MOST_SPACE_ELEMENTS,
        NO_BOUND,
        Leaf,
        all_finite,
        cast_exactly,
        distinct_bounds,
        has_bounds,
        leaves,
        same_form,
    )
    from aisandbox_wire.tensors import WIRE_DTYPES, Array, data_type, decode_tensor, encode_tensor, numpy_dtype
    from aisandbox_wire.wire_format import read_fields

_NAMES = {
    "action_masks": ("MASKS_METHOD", "MaskLayout"),
    "algorithm_names": ("ALGORITHM_NAMES",),
    "batches": ("BatchLeaf",),
    "bounded_messages": ("bounded_parser", "parse_bounded"),
    "dataclass_messages": ("dataclass_of", "enumerators", "message_fields"),
    "errors": ("InvalidSpace", "InvalidTensor", "InvalidValue", "OversizedMessage", "WireError"),
    "gymnasium_spaces": ("join", "names_of", "set_names", "space_from_proto", "space_to_proto", "split", "wire_space"),
    "model_health": ("model_health_service", "run_of_health_service"),
    "noise": ("NOISE_KINDS", "draw_noise"),
    "space_builders": ("box", "dict_space", "discrete", "multi_binary", "multi_discrete"),
    "space_words": ("form_of",),
    "spaces": (
        *("MOST_SPACE_ELEMENTS", "NO_BOUND", "Leaf"),
        *("all_finite", "cast_exactly", "distinct_bounds", "has_bounds", "leaves", "same_form"),
    ),
    "tensors": ("WIRE_DTYPES", "Array", "data_type", "decode_tensor", "encode_tensor", "numpy_dtype"),
    "wire_format": ("read_fields",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ALGORITHM_NAMES",
    "MASKS_METHOD",
    "MOST_SPACE_ELEMENTS",
    "NOISE_KINDS",
    "NO_BOUND",
    "WIRE_DTYPES",
    "Array",
    "BatchLeaf",
    "InvalidSpace",
    "InvalidTensor",
    "InvalidValue",
    "Leaf",
    "MaskLayout",
    "OversizedMessage",
    "WireError",
    "all_finite",
    "bounded_parser",
    "box",
    "cast_exactly",
    "data_type",
    "dataclass_of",
    "decode_tensor",
    "dict_space",
    "discrete",
    "distinct_bounds",
    "draw_noise",
    "encode_tensor",
    "enumerators",
    "form_of",
    "has_bounds",
    "join",
    "leaves",
    "message_fields",
    "model_health_service",
    "multi_binary",
    "multi_discrete",
    "names_of",
    "numpy_dtype",
    "parse_bounded",
    "read_fields",
    "run_of_health_service",
    "same_form",
    "set_names",
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
