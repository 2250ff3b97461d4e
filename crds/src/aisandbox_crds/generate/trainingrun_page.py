"""The tables of docs/trainingrun.md, made of the resource's schema; what is between them is written by hand.

A table stands between ``<!-- table: PATH -->`` and ``<!-- end -->``, where PATH names an object of the schema, as
``spec`` or ``status.progress``. Owns the form of the tables only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aisandbox_crds.generate.resource import run_schema

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_INLINE = (
    *("gymnasium", "grpc", "pool", "fake", "evaluation", "startFrom", "demonstrations", "stopWhen", "lessons", "until"),
    *("resources", "tolerations", "conditions", "lesson", "cloning", "earlyStop", "podTemplate", "metadata", "spec"),
    *("containers", "imagePullSecrets"),
)
"""Objects whose fields stand in the table of the object around them."""


def with_tables(text: str) -> str:
    """The page with its tables generated again."""
    return _TABLE.sub(lambda match: match[1] + "".join(f"{row}\n" for row in _table(match[2])) + match[3], text)


def field_at(path: str) -> Mapping[str, Any]:
    """The schema of one field, as ``spec.environment``; items of lists count as the list. Raises KeyError."""
    found: Mapping[str, Any] = run_schema()
    for name in path.split("."):
        found = found.get("items", found)["properties"][name]
    return found


def _table(path: str) -> Iterator[str]:
    yield "| field | type | default | is |"
    yield "|---|---|---|---|"
    yield from _rows(field_at(path), "")


def _rows(outer: Mapping[str, Any], prefix: str) -> Iterator[str]:
    outer = outer.get("items", outer)
    for name, inner in outer["properties"].items():
        default = "required" if name in outer.get("required", ()) else _default(inner)
        description = " ".join(inner["description"].split()).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_type(inner)} | {default} | {description} |"
        if name in _INLINE and "properties" in inner.get("items", inner):
            yield from _rows(inner, f"{prefix}{name}{'[]' if 'items' in inner else ''}.")
        elif name == "environment":
            yield from _rows(inner, f"{prefix}{name}.")


def _default(inner: Mapping[str, Any]) -> str:
    if "default" not in inner:
        return ""
    return f"`{json.dumps(inner['default'])}`"


def _type(inner: Mapping[str, Any]) -> str:
    if "enum" in inner:
        return ", ".join(f"`{value}`" for value in inner["enum"])
    if "additionalProperties" in inner:
        return "map of quantities" if "anyOf" in inner["additionalProperties"] else "map of text to text"
    if inner["type"] == "array":
        choices = inner["items"].get("enum")
        return "list of " + (", ".join(f"`{value}`" for value in choices) if choices else "objects")
    if inner["type"] == "integer":
        bounds = [inner.get("minimum"), inner.get("maximum")]
        return "integer" if None in bounds else f"integer, {bounds[0]:,} to {bounds[1]:,}"
    if inner.get("x-kubernetes-preserve-unknown-fields"):
        return "any object"
    if inner["type"] == "string":
        return "time" if inner.get("format") == "date-time" else "text"
    return str(inner["type"])
