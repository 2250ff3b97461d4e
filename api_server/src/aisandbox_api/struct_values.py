"""google.protobuf.Struct as Python values, for fields of a request that hold any JSON.

Must not know what the values are for.
"""

from __future__ import annotations

import math
from typing import Any

from aisandbox_crds import FieldError
from google.protobuf import struct_pb2


def struct_values(struct: struct_pb2.Struct, field: str, errors: list[FieldError]) -> dict[str, Any]:
    """A Struct as Python values. Struct has doubles only: whole numbers become ints, which keyword arguments need."""
    try:
        return {key: _value(value, f"{field}.{key}", errors) for key, value in struct.fields.items()}
    except RecursionError:
        errors.append(FieldError(field, "is nested too deeply"))
        return {}


def _value(value: struct_pb2.Value, field: str, errors: list[FieldError]) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _value(entry, f"{field}.{key}", errors) for key, entry in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_value(entry, f"{field}[{i}]", errors) for i, entry in enumerate(value.list_value.values)]
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            errors.append(FieldError(field, f"must be finite, got {number}"))
            return 0
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return {"bool_value": value.bool_value, "string_value": value.string_value}.get(kind or "")
