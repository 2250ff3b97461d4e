"""The OpenAPI schema of a dataclass, from the types, defaults and rules of its fields.

Must not know which dataclasses the resource is made of.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from aisandbox_crds.codec import ENVIRONMENT_KINDS, camel_case
from aisandbox_crds.field_rules import CelRule, FieldRule, rule_of
from aisandbox_crds.generate.cross_field_rules import OF_OBJECTS, ONE_ENVIRONMENT
from aisandbox_crds.spec import (
    DemonstrationSettings,
    Environment,
    PoolEnvironment,
    Resources,
    StopWhen,
    TrainingRunSpec,
)

Schema = dict[str, Any]

RULES = "x-kubernetes-validations"
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_JSON_TYPES: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
# Of these the API server fills in the numbers that are absent.
_FILLED_IN = {each.__module__ for each in (TrainingRunSpec, DemonstrationSettings, PoolEnvironment, StopWhen)}

_QUANTITY: Schema = {
    "x-kubernetes-int-or-string": True,
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "maxLength": 64,
    RULES: [
        {
            "rule": "isQuantity(string(self)) && string(self).matches('^[.]?[0-9]')",
            "message": "must be a quantity of at least 0, as 2, 500m or 4Gi",
        }
    ],
}


def object_schema(cls: type, description: str) -> Schema:
    """The schema of a dataclass; a field without a default is required."""
    hints = get_type_hints(cls)
    required = [camel_case(field.name) for field in fields(cls) if default_of(field) is MISSING]
    return {
        "type": "object",
        "description": description,
        **({"required": required} if required else {}),
        **({RULES: [validation(rule) for rule in OF_OBJECTS[cls]]} if cls in OF_OBJECTS else {}),
        "properties": {camel_case(field.name): _field_schema(cls, field, hints[field.name]) for field in fields(cls)},
    }


def _field_schema(cls: type, field: Field[Any], hint: Any) -> Schema:
    """The schema of one field of ``cls``, whose type is ``hint``."""
    rule, kind = rule_of(field), _without_none(hint)
    if kind == Environment:
        schema = _environment_schema(rule)
    elif rule.shape is not None and get_origin(kind) is not tuple:
        schema = object_schema(rule.shape, rule.doc)
    elif get_origin(kind) is tuple:
        schema = _list_schema(rule, get_args(kind)[0])
    elif is_dataclass(kind):
        schema = object_schema(kind, rule.doc)  # type: ignore[arg-type]
    elif get_origin(kind) is Mapping:
        schema = _map_schema(rule, get_args(kind)[1], is_quantities=cls is Resources)
    else:
        schema = _scalar_schema(rule, kind)
    default = default_of(field)
    if cls.__module__ in _FILLED_IN and isinstance(default, int):
        schema["default"] = default
    if rules := [validation(each) for each in _rules(rule, kind)]:
        schema[RULES] = [*schema.get(RULES, ()), *rules]
    schema |= rule.schema or {}
    return {key: value for key, value in schema.items() if value is not None}


def _scalar_schema(rule: FieldRule, kind: Any) -> Schema:
    schema: Schema = {"type": "string" if issubclass(kind, StrEnum) else _JSON_TYPES[kind]}
    choices = [member.value for member in kind] if issubclass(kind, StrEnum) else list(rule.choices)
    if choices:
        schema["enum"] = choices
    if kind is int:
        schema["format"] = f"int{rule.bits}"
    if rule.time:
        schema["format"] = "date-time"
    limits = {
        "minimum": rule.minimum,
        "maximum": rule.maximum,
        "minLength": rule.min_length,
        "maxLength": rule.max_length,
    }
    return {**schema, **{key: value for key, value in limits.items() if value is not None}, "description": rule.doc}


def _map_schema(rule: FieldRule, entry: Any, is_quantities: bool) -> Schema:
    if is_quantities:
        entries = _QUANTITY
    elif entry is str:
        entries = {"type": "string", "maxLength": rule.max_length}
    else:
        limit = {} if rule.max_entries is None else {"maxProperties": rule.max_entries}
        return {"type": "object", **limit, "description": rule.doc, _PRESERVE: True}
    return {
        "type": "object",
        "maxProperties": rule.max_entries,
        "description": rule.doc,
        "additionalProperties": entries,
    }


def _list_schema(rule: FieldRule, entry: Any) -> Schema:
    shape: Any = rule.shape or (entry if is_dataclass(entry) else None)
    items = _items_schema(entry) if shape is None else object_schema(shape, _summary(shape))
    return {"type": "array", "maxItems": rule.max_entries, "description": rule.doc, "items": items}


def _items_schema(entry: Any) -> Schema:
    if isinstance(entry, type) and issubclass(entry, StrEnum):
        return {"type": "string", "enum": [member.value for member in entry]}
    return {"type": "object", _PRESERVE: True}


def _environment_schema(rule: FieldRule) -> Schema:
    kinds = {kind: object_schema(cls, _summary(cls)) for kind, cls in ENVIRONMENT_KINDS.items()}
    for schema in kinds.values():
        if not schema["properties"]:
            del schema["properties"]
    return {
        "type": "object",
        "description": rule.doc,
        "default": {"fake": {}},
        RULES: [validation(ONE_ENVIRONMENT)],
        "properties": kinds,
    }


def _rules(rule: FieldRule, kind: Any) -> tuple[CelRule, ...]:
    """The rules of one field: those of its patterns, and those in CEL."""
    found: list[CelRule] = []
    if rule.key_pattern is not None:
        found.append(CelRule(f"self.all(k, {rule.key_pattern.cel('k')})", rule.key_pattern.message))
    if rule.pattern is not None and get_origin(kind) is Mapping:
        found.append(CelRule(f"self.all(k, {rule.pattern.cel('self[k]')})", rule.pattern.message))
    elif rule.pattern is not None:
        found.append(CelRule(rule.pattern.cel(), rule.pattern.message))
    return (*found, *rule.cel)


def validation(rule: CelRule) -> Schema:
    """The rule as an entry of :data:`RULES`."""
    return {"rule": rule.rule, "message": rule.message}


def default_of(field: Field[Any]) -> Any:
    """The value of a field that is not given; MISSING if it must be given."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, UnionType) or hint == Environment:
        return hint
    (kind,) = (option for option in get_args(hint) if option is not NoneType)
    return kind
