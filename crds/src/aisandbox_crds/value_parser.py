"""From the text of a hyperparameter to a value, without evaluating it.

Owns the notation: what YAML and RL Zoo's ``eval`` make of such text, less everything that could compute, loop or reach
an object that is not named here. Whether the value suits a hyperparameter is for :mod:`aisandbox_crds.parameter_types`.
"""

from __future__ import annotations

import ast
import math
import re

from aisandbox_crds.errors import MalformedValue, short_repr
from aisandbox_crds.parameter_values import ClassName, LinearSchedule, Value
from aisandbox_crds.spec import MAX_VALUE_LENGTH

_MAX_DEPTH = 8
_MAX_NODES = 500
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TAG = re.compile(r"!!(float|int|bool|null)\s+")
"""YAML's, which RL Zoo's files write before numbers such as ``!!float 1e-3``."""
_WORDS: dict[str, Value] = {"true": True, "false": False, "none": None, "null": None}
_STRUCTURE = re.compile(r"[A-Za-z0-9_.,:+\-()\[\]{}'\"=\s]*")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def parse_value(text: str) -> Value:
    """The value the text stands for; a word that is nothing else is itself. Raises MalformedValue.

    Numbers, True, False and None; ``lin_3e-4``; lists, tuples and dicts as in Python, ``dict(a=1)`` too, holding
    these, quoted text and known names like ``nn.ReLU``. ``true``, ``false`` and ``null`` are what they are in JSON,
    inside of a list or dict as outside.
    """
    text = _TAG.sub("", text.strip())
    if len(text) > MAX_VALUE_LENGTH:
        raise MalformedValue(f"is {len(text)} characters long; at most {MAX_VALUE_LENGTH}")
    if not text:
        raise MalformedValue("is empty")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return _finite(float(text))
    if text.startswith("lin_") and _NUMBER.fullmatch(text[4:]):
        return LinearSchedule(_finite(float(text[4:])))
    if any(bracket in text for bracket in "([{"):
        return _parse_structure(text)
    return text


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise MalformedValue("is too large for a number")
    return number


def _parse_structure(text: str) -> Value:
    # Backslashes, operators, comprehensions and walruses are gone before Python's parser sees the text.
    if not _STRUCTURE.fullmatch(text):
        raise MalformedValue(f"has characters that are not allowed: {short_repr(_STRUCTURE.sub('', text))}")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise MalformedValue("is not a list, tuple or dict as Python writes them") from error
    return _Walk().value(tree.body, 0)


class _Walk:
    """Turns the known nodes of a syntax tree into values and refuses the rest."""

    def __init__(self) -> None:
        self.nodes = 0

    def value(self, node: ast.expr, depth: int) -> Value:
        self.nodes += 1
        if depth > _MAX_DEPTH or self.nodes > _MAX_NODES:
            raise MalformedValue(f"is nested more than {_MAX_DEPTH} levels deep or has more than {_MAX_NODES} parts")
        match node:
            case ast.Constant(value=None | bool() | int() | str()):
                return node.value  # type: ignore[return-value]
            case ast.Constant(value=float() as number):
                return _finite(number)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as number)) if (
                not isinstance(number, bool)
            ):
                return _finite(-number) if isinstance(node.op, ast.USub) else _finite(number)
            case ast.List(elts=items):
                return [self.value(item, depth + 1) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item, depth + 1) for item in items)
            case ast.Dict(keys=keys, values=values):
                return self._entries([(self._key(key), value) for key, value in zip(keys, values, strict=True)], depth)
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return self._entries([(keyword.arg, keyword.value) for keyword in keywords], depth)
            case ast.Name(id=word) if word.lower() in _WORDS:
                return _WORDS[word.lower()]
            case ast.Name() | ast.Attribute():
                return ClassName(self._dotted(node))
        raise MalformedValue(f"has {self._source(node)}, which is not a number, text, list, tuple, dict or known name")

    def _entries(self, pairs: list[tuple[str | None, ast.expr]], depth: int) -> Value:
        names = [name for name, _ in pairs if name is not None]
        if len(names) < len(pairs):
            raise MalformedValue("has a dict with a key that is not text")
        if len(set(names)) < len(names):
            raise MalformedValue("has a dict with the same key twice")
        return {name: self.value(node, depth + 1) for name, (_, node) in zip(names, pairs, strict=True)}

    @staticmethod
    def _key(key: ast.expr | None) -> str | None:
        return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None

    def _dotted(self, node: ast.expr) -> str:
        name = self._source(node)
        if not _DOTTED.fullmatch(name):
            raise MalformedValue(f"has {name}, which is not a known name")
        return name

    @staticmethod
    def _source(node: ast.expr) -> str:
        try:
            return short_repr(ast.unparse(node)).strip("'\"")
        except (ValueError, RecursionError):
            return "an expression"
