"""Dataclasses as messages and back, by the names of their fields.

A field that both have under the same name is copied; the others are the caller's. An enumeration of text
(``Activity.WAITING_FOR_SIMULATOR``, "WaitingForSimulator") is the value of the message's enumeration that ends in the
same words (``TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR``). Must not know any message or dataclass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def message_fields(cls: type[Message], value: Any) -> dict[str, Any]:
    """The keyword arguments of ``cls`` that the dataclass ``value`` has; None and unknown enumerators are left out."""
    return _message_fields(cls.DESCRIPTOR, value)


def dataclass_of(cls: type[T], message: Message) -> T:
    """The dataclass made of the fields of ``message``.

    A field that is absent, or an enumerator that the dataclass does not have, keeps the default of the dataclass.
    """
    known = message.DESCRIPTOR.fields_by_name
    arguments: dict[str, Any] = {}
    for name, kind in _types(cls):  # type: ignore[arg-type]
        descriptor = known.get(name)
        if descriptor is None or (descriptor.has_presence and not message.HasField(name)):
            continue
        item = getattr(message, name)
        if descriptor.enum_type is not None:
            member = enumerators(kind, descriptor.enum_type).get(item)
            if member is not None:
                arguments[name] = member
        else:
            arguments[name] = dataclass_of(kind, item) if is_dataclass(kind) else item  # type: ignore[arg-type]
    return cls(**arguments)


def enumerators(cls: type[E], enum: Any) -> Mapping[int, E]:
    """The members of ``cls`` by the numbers of the message's enumeration, given by its descriptor."""
    return _enumerators(cls, enum)


def _message_fields(descriptor: Any, value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    known = descriptor.fields_by_name
    for field in fields(value):
        of_message, item = known.get(field.name), getattr(value, field.name)
        if of_message is None or item is None:
            continue
        if of_message.enum_type is not None:
            enumerator = of_message.enum_type.values_by_name.get(_prefix(of_message.enum_type.name) + _name(item))
            if enumerator is not None:
                found[field.name] = enumerator.number
        else:
            found[field.name] = _message_fields(of_message.message_type, item) if is_dataclass(item) else item
    return found


@cache
def _enumerators(cls: type[E], enum: Any) -> Mapping[int, E]:
    prefix = _prefix(enum.name)
    known = {prefix + member.name: member for member in cls}
    return {value.number: known[value.name] for value in enum.values if value.name in known}


@cache
def _types(cls: type) -> tuple[tuple[str, Any], ...]:
    """The names and types of a dataclass's fields, an optional one without None."""
    hints = get_type_hints(cls)
    return tuple((field.name, _without_none(hints[field.name])) for field in fields(cls))


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    (kind,) = (option for option in get_args(kind) if option is not NoneType)
    return kind


@cache
def _prefix(name: str) -> str:
    return f"{_words(name)}_"


def _name(item: Any) -> str:
    """The name of an enumerator without its prefix."""
    return item.name if isinstance(item, StrEnum) else _words(item)


@cache
def _words(text: str) -> str:
    """``WaitingForSimulator`` -> ``WAITING_FOR_SIMULATOR``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).upper()
