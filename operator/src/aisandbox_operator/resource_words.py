"""Names of fields as the resource spells them, in what checks and trainers say: they know those of a start call.

``start_from.take: ...`` becomes ``spec.startFrom.take: ...``. What is in quotes was written by users and stays as it
is, and so does a message that begins with no field. Must not know a rule.
"""

from __future__ import annotations

import re
from dataclasses import fields

from aisandbox_crds import Evaluation, LessonEnd, StartFrom, StopWhen, TrainingRunSpec, camel_case

_MAPS = ("hyperparameters", "parameters", "kwargs", "options", "labels", "annotations", "node_selector")
"""Fields whose keys are written by users: below them names stay as they are."""
_FIELDS = [field.name for field in fields(TrainingRunSpec)]
_SPELLED = [
    field.name
    for cls in (TrainingRunSpec, Evaluation, StartFrom, StopWhen, LessonEnd)
    for field in fields(cls)
    if "_" in field.name
]
_FIELD = rf"(?:{'|'.join(_FIELDS)})(?:[.\[][^\s:]*)?(?=: )"
_WORD = re.compile(
    r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    rf"|(?P<path>(?:^|(?<=; )){_FIELD})"
    rf"|(?P<name>(?<![\w./])(?:{'|'.join(_SPELLED)})\b(?:\.\w+)*+(?!/))"
)
_BEGINNING = re.compile(_FIELD)


def resource_path(field: str) -> str:
    """``spec.totalTimesteps`` for ``total_timesteps``; a hyperparameter or a parameter of lessons keeps its name."""
    words = field.split(".")
    last = next((i for i, word in enumerate(words) if word in _MAPS), len(words))
    return ".".join(["spec", *map(camel_case, words[: last + 1]), *words[last + 1 :]])


def rule_in_resource_words(rule: str) -> str:
    """The rule of a field with the names of the resource for those of a start call."""
    return _WORD.sub(_in_resource_words, rule)


def message_in_resource_words(message: str) -> str:
    """As :func:`rule_in_resource_words`, with the field that begins the message, or a part of it, as a path."""
    return rule_in_resource_words(message) if _BEGINNING.match(message) else message


def _in_resource_words(found: re.Match[str]) -> str:
    if found["path"]:
        return resource_path(found["path"])
    return camel_case(found["name"]) if found["name"] else found[0]
