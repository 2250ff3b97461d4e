"""Names of fields as the resource spells them, in what checks and trainers say: they know those of a start call.

``start_from.take: ...`` becomes ``spec.startFrom.take: ...``. Must not know a rule.
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
_PATH = re.compile(rf"(?:^|(?<=; ))(?:{'|'.join(_FIELDS)})(?:[.\[][^\s:]*)?(?=: )")
_MENTION = re.compile(rf"(?<![\w.])(?:{'|'.join(_SPELLED)})\b(?:\.\w+)*")


def resource_path(field: str) -> str:
    """``spec.totalTimesteps`` for ``total_timesteps``; a hyperparameter or a parameter of lessons keeps its name."""
    words = field.split(".")
    last = next((i for i, word in enumerate(words) if word in _MAPS), len(words))
    return ".".join(["spec", *map(camel_case, words[: last + 1]), *words[last + 1 :]])


def in_resource_words(text: str) -> str:
    """The text with the names of the resource for those of a start call; the field that begins it, as a path."""
    return _MENTION.sub(lambda found: camel_case(found[0]), _PATH.sub(lambda found: resource_path(found[0]), text))
