"""Messages of any type, made at random from their descriptors: some as they should be, some hostile, some broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

TEXTS = (
    "r", "r", "latest", "best", "step:100", "sha256:00", "", "e", "a" * 200, "\x1b[2J\r\n\x00", "\u202e", "é" * 50,
    "127.0.0.1:50061", "unix:50061", "xds:443", "dns:///sims:1", "a:1,b:2", "CartPole-v1", "os:x", "learning_rate",
    "n_steps", "normalize", "1e-3", "[[[[[[", "{}", "../../etc/passwd", "out/model.onnx", "WyIiLCIiXQ==", "MlpPolicy",
    "policy", "9" * 400, "%s%n", "None", "dict(a=1)", "nan",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, 7, 64, 2**16, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, -1, -(2**31), -(2**63))
FLOATS = (0.0, 1.0, -0.5, 1e-9, 1e30, 3.4e38, 1e308, math.inf, -math.inf, math.nan)
_DEEPEST = 6
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def random_bytes(cls: type[Message], random: Random, seeds: Sequence[bytes] = ()) -> bytes:
    """The bytes of a message of type ``cls``, or of one of ``seeds``; every other one is changed here and there."""
    data = random.choice(seeds) if seeds and random.random() < 0.4 else random_message(cls, random).SerializeToString()
    while random.random() < 0.5:
        data = random.choice(_CHANGES)(data, random)
    return data


def random_message(cls: type[M], random: Random) -> M:
    """A message of type ``cls`` with about half of its fields."""
    message = cls()
    _fill(message, random, 0)
    return message


def _fill(message: Any, random: Random, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.45:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(message, field, random, depth)
        elif field.is_repeated:
            target = getattr(message, field.name)
            for _ in range(_count(random, few=field.message_type is not None)):
                if field.message_type is None:
                    target.append(_value(field, random))
                elif depth < _DEEPEST:
                    _fill(target.add(), random, depth + 1)
        elif field.message_type is None:
            setattr(message, field.name, _value(field, random))
        elif depth < _DEEPEST:
            inner = getattr(message, field.name)
            inner.SetInParent()
            _fill(inner, random, depth + 1)


def _fill_map(message: Any, field: Any, random: Random, depth: int) -> None:
    target = getattr(message, field.name)
    value = field.message_type.fields_by_name["value"]
    for _ in range(_count(random, few=True)):
        key = _value(field.message_type.fields_by_name["key"], random)
        if value.message_type is None:
            target[key] = _value(value, random)
        elif depth < _DEEPEST:
            _fill(target[key], random, depth + 1)


def _count(random: Random, *, few: bool) -> int:
    chance = random.random()
    if chance < 0.9 or few:
        return random.randrange(5)
    return random.randrange(100) if chance < 0.9995 else 70_000


def _value(field: Any, random: Random) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 3, 4, 8, 16, 100)))
        return random.choice(TEXTS)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return random.choice(FLOATS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    low, high = (0, 12) if field.enum_type is not None and random.random() < 0.9 else _RANGES[field.cpp_type]
    return max(low, min(high, random.choice(NUMBERS)))


def _flip(data: bytes, random: Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[random.randrange(len(data))] = random.randrange(256)
    return bytes(changed)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.randrange(12)) + data[place:]


def _repeat(data: bytes, random: Random) -> bytes:
    """A part of it again and again, now and then for megabytes."""
    start = random.randrange(len(data) + 1)
    part = data[start : start + random.randrange(1, 40)]
    times = random.randrange(2, 50) if random.random() < 0.997 else (2 << 20) // max(1, len(part))
    return (data[:start] + part * times + data[start:])[: 8 << 20]


_CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _flip, _flip, _cut, _insert, _insert, _repeat)
