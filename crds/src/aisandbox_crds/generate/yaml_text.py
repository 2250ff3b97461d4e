"""Writes JSON values as YAML that reads well: two spaces, long texts folded, short lists in one line.

Only the subset that a resource needs. Must not know what is written.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z.][A-Za-z0-9_./()'=,;+ -]*")
_AMBIGUOUS = re.compile(r"(?i)true|false|yes|no|on|off|null|y|n|[.0-9e+-]+|.* ")
"""Plain texts that YAML would read as something else."""


def yaml_text(value: Mapping[str, Any]) -> str:
    """The document, with a newline at its end."""
    return "".join(f"{line}\n" for line in _mapping(value, 0))


def _mapping(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for key, item in value.items():
        yield from _entry(f"{' ' * indent}{_scalar(key)}:", item, indent)


def _entry(head: str, item: Any, indent: int) -> Iterator[str]:
    """A key or a dash with what belongs to it; ``indent`` is that of the key."""
    if _is_short(item):
        inline = f"{head} {_inline(item)}"
        if len(inline) <= WIDTH or not isinstance(item, str):
            yield inline
        elif folded := _folded(item, indent + 2):
            yield f"{head} >-"
            yield from folded
        else:
            yield inline
    elif isinstance(item, Mapping):
        yield head
        yield from _mapping(item, indent + 2)
    else:
        yield head
        for entry in item:
            yield from _item(entry, indent + 2)


def _item(entry: Any, indent: int) -> Iterator[str]:
    if not isinstance(entry, Mapping) or _is_short(entry):
        yield from _entry(f"{' ' * indent}-", entry, indent)
        return
    lines = list(_mapping(entry, indent + 2))
    yield f"{' ' * indent}- {lines[0].strip()}"
    yield from lines[1:]


def _is_short(item: Any) -> bool:
    """Whether the value stands in one line: a scalar, an empty collection or a few scalars."""
    if isinstance(item, Mapping):
        return not item or (len(item) == 1 and all(entry == {} for entry in item.values()))
    if isinstance(item, list):
        return not item or (all(isinstance(entry, str) for entry in item) and len(_inline(item)) < 90)
    return True


def _inline(item: Any) -> str:
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_inline(entry)}" for key, entry in item.items()) + "}"
    if isinstance(item, list):
        return "[" + ", ".join(_scalar(entry) if "," not in entry else json.dumps(entry) for entry in item) + "]"
    return _scalar(item)


def _scalar(item: Any) -> str:
    if isinstance(item, str) and _PLAIN.fullmatch(item) and not _AMBIGUOUS.fullmatch(item):
        return item
    return json.dumps(item, ensure_ascii=False)


def _folded(text: str, indent: int) -> list[str]:
    """The lines of a folded scalar; empty if folding would change the text."""
    width = max(WIDTH - indent, 40)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    if " ".join(lines) != text:
        return []
    return [f"{' ' * indent}{line}" for line in lines]
