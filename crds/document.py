"""Writes the tables of docs/trainingrun.md from trainingrun.yaml; what is between them is written by hand.

``python crds/document.py`` writes, ``python crds/document.py --check`` says whether they are current. A table stands
between ``<!-- table: PATH -->`` and ``<!-- end -->``, where PATH names an object of the schema, as ``spec`` or
``status.progress``. Owns the form of the tables only.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
RESOURCE = HERE / "trainingrun.yaml"
DOCUMENT = HERE.parent / "docs" / "trainingrun.md"

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_INLINE = ("gymnasium", "grpc", "fake", "evaluation", "resources", "tolerations", "conditions")
"""Objects whose fields stand in the table of the object around them."""


def schema() -> Mapping[str, Any]:
    """The OpenAPI schema of the resource."""
    (version,) = yaml.safe_load(RESOURCE.read_text(encoding="utf-8"))["spec"]["versions"]
    found: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def field(path: str) -> Mapping[str, Any]:
    """The schema of one field, as ``spec.environment``; items of lists count as the list. Raises KeyError."""
    found = schema()
    for name in path.split("."):
        found = found.get("items", found)["properties"][name]
    return found


def current(text: str) -> str:
    """The document with its tables made anew."""
    return _TABLE.sub(lambda match: match[1] + "".join(f"{row}\n" for row in _table(match[2])) + match[3], text)


def _table(path: str) -> Iterator[str]:
    yield "| field | type | default | is |"
    yield "|---|---|---|---|"
    yield from _rows(field(path), "")


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
        return "list of objects"
    if inner["type"] == "integer":
        bounds = [inner.get("minimum"), inner.get("maximum")]
        return "integer" if None in bounds else f"integer, {bounds[0]:,} to {bounds[1]:,}"
    if inner.get("x-kubernetes-preserve-unknown-fields"):
        return "any object"
    if inner["type"] == "string":
        return "time" if inner.get("format") == "date-time" else "text"
    return str(inner["type"])


def main(arguments: list[str]) -> None:
    """Writes the document, or with --check exits with 1 if it is not current."""
    text = DOCUMENT.read_text(encoding="utf-8")
    if arguments == ["--check"]:
        sys.exit(0 if text == current(text) else f"{DOCUMENT} is not current; run: python crds/document.py")
    DOCUMENT.write_text(current(text), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
