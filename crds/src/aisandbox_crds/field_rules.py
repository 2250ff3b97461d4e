"""The table of the resource's fields: what each means and which values it takes.

A field's name, type and default stand in its dataclass (:mod:`aisandbox_crds.spec`, :mod:`aisandbox_crds.status`); the
rest is the :class:`FieldRule` in its metadata. ``crds/trainingrun.yaml``, docs/trainingrun.md and the checks of
:mod:`aisandbox_crds.validation` are made from both. Must not know a field.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any

from aisandbox_crds.errors import FieldError, short_repr

_KEY = "aisandbox_crds.rule"

ATOMIC: Mapping[str, Any] = {"x-kubernetes-list-type": "atomic"}
"""The schema of a list that writers replace as a whole."""


@dataclass(frozen=True, slots=True)
class CelRule:
    """A rule in the Common Expression Language that an API server checks, and its message."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that the whole text must match, in the syntax that RE2 and Python share.

    ``message`` follows "must be" or "must have" in an error. ``key_pattern`` of a map is for its keys.
    """

    expression: str
    message: str

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        return re.fullmatch(self.expression, text, re.ASCII) is not None

    def cel(self, variable: str = "self") -> str:
        """The same as an expression of CEL."""
        return f"{variable}.matches('^{self.expression}$')"


DIGEST_IF_ANY = Pattern("(sha256:[0-9a-f]{64})?", "must be sha256: and 64 hexadecimal digits")
"""Of a text that is the digest of a file, or empty."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field, apart from its name, type and default.

    ``doc`` is what users read: one or more sentences, with what zero or absence means.

    Limits: ``minimum`` and ``maximum`` of an integer, which has ``bits`` in the schema; ``min_length`` and
    ``max_length`` of a text or of the texts of a map, in characters; ``max_entries`` of a map or list. ``key_pattern``
    is for the keys of a map, ``pattern`` for a text or for the values of a map. ``choices`` are the allowed texts.
    ``time``: the text is an RFC 3339 time. ``shape`` is the dataclass that describes the entries of a mapping that is
    kept as Kubernetes has it. ``immutable``: it cannot be changed after the run is created; ``while_idle``: it can be
    all the same while no trainer of the run is at work.

    ``cel`` are rules that a pattern cannot state; their Python is written by hand. ``schema`` is merged into the
    OpenAPI schema as it is; None removes a key.
    """

    doc: str
    minimum: int | None = None
    maximum: int | None = None
    bits: int = 64
    min_length: int | None = None
    max_length: int | None = None
    max_entries: int | None = None
    pattern: Pattern | None = None
    key_pattern: Pattern | None = None
    choices: tuple[str, ...] = ()
    time: bool = False
    shape: type | None = None
    immutable: bool = True
    while_idle: bool = False
    cel: tuple[CelRule, ...] = ()
    schema: Mapping[str, Any] | None = None


def about(doc: str, **rule: Any) -> Mapping[str, FieldRule]:
    """The metadata of a field: ``field(default=3, metadata=about("How often ...", minimum=0))``."""
    return {_KEY: FieldRule(doc, **rule)}


def rule_of(field: Field[Any]) -> FieldRule:
    """The rule of a field. Raises KeyError for one without."""
    rule: FieldRule = field.metadata[_KEY]
    return rule


def rule_named(cls: type, name: str) -> FieldRule:
    """The rule of the field ``name`` of a dataclass. Raises KeyError."""
    return rule_of({field.name: field for field in fields(cls)}[name])


def object_errors(value: Any, prefix: str = "", by_hand: Container[str] = ()) -> Iterator[FieldError]:
    """What of a dataclass breaks the rules of its fields; ``prefix`` begins their names, ``by_hand`` are left out."""
    for field in fields(value):
        if field.name not in by_hand:
            yield from value_errors(getattr(value, field.name), rule_of(field), f"{prefix}{field.name}")


def value_errors(value: Any, rule: FieldRule, path: str) -> Iterator[FieldError]:
    """What of the value breaks the rule; ``path`` names the field. None is no value and breaks nothing."""
    if value is None:
        return
    if rule.minimum is not None and rule.maximum is not None:
        if not isinstance(value, int) or isinstance(value, bool) or not rule.minimum <= value <= rule.maximum:
            expected = f"must be a whole number from {rule.minimum:,} to {rule.maximum:,}"
            yield FieldError(path, f"{expected}, got {short_repr(value)}")
    elif rule.choices:
        if value not in rule.choices:
            yield FieldError(path, f"must be one of {', '.join(rule.choices)}, got {short_repr(value)}")
    elif rule.max_entries is not None:
        yield from _entry_errors(value, rule, path)
    elif rule.pattern is not None:
        yield from _text_errors(value, rule, rule.pattern, path)


def _text_errors(value: object, rule: FieldRule, pattern: Pattern, path: str) -> Iterator[FieldError]:
    if not isinstance(value, str) or not pattern.matches(value):
        yield FieldError(path, f"{pattern.message}, got {short_repr(value)}")
    elif rule.max_length is not None and len(value) > rule.max_length:
        yield FieldError(path, f"must have at most {rule.max_length:,} characters, got {len(value):,}")


def _entry_errors(value: Mapping[Any, Any] | Sequence[Any], rule: FieldRule, path: str) -> Iterator[FieldError]:
    if rule.max_entries is not None and len(value) > rule.max_entries:
        yield FieldError(path, f"has {len(value)} entries; at most {rule.max_entries}")
    for key, entry in value.items() if isinstance(value, Mapping) else ():
        if rule.key_pattern is not None and not (isinstance(key, str) and rule.key_pattern.matches(key)):
            yield FieldError(path, f"{rule.key_pattern.message}, got {short_repr(key)}")
        if rule.pattern is not None and not (isinstance(entry, str) and rule.pattern.matches(entry)):
            yield FieldError(path, f"{rule.pattern.message}, got {short_repr(entry)}")
        elif rule.max_length is not None and isinstance(entry, str) and len(entry) > rule.max_length:
            rule_of_length = f"must have at most {rule.max_length:,} characters, got {len(entry):,}"
            yield FieldError(f"{path}.{key}"[:110], rule_of_length)
