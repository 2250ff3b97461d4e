"""Values in the API server's JSON: of the type that is expected, or empty.

Never raises: one malformed object must not keep the operator from the others. Must not know kinds of objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def controller(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner reference of an object's controller; empty without one."""
    owners = (owner for owner in sequence(metadata.get("ownerReferences")) if owner.get("controller") is True)
    return next(owners, {})


def conditions_by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions of a status, by their types."""
    return {text(condition.get("type")): condition for condition in sequence(status.get("conditions"))}


def entry_named(entries: object, name: str) -> Mapping[str, Any]:
    """The entry of a list with that name; empty without one."""
    return next((entry for entry in sequence(entries) if entry.get("name") == name), {})


def is_true(condition: object) -> bool:
    """Whether a condition holds."""
    return mapping(condition).get("status") == "True"


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Iterable[Mapping[str, Any]]:
    """The objects of a list; none of anything else."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def text(value: object) -> str:
    """The value if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def texts(value: object) -> Mapping[str, str]:
    """The texts of an object."""
    return {key: text for key, text in mapping(value).items() if isinstance(text, str)}


def count(value: object) -> int:
    """A number of at least 0, also as a text; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
