"""Which changes of a run the API server accepts: rules in CEL, from what the table says of each field of the spec.

Must not know which fields there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from aisandbox_crds.codec import camel_case
from aisandbox_crds.field_rules import rule_of
from aisandbox_crds.generate.field_schemas import Schema, default_of
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import Phase

_HAS_PHASE = "has(self.status) && has(self.status.phase)"
_IDLE = (Phase.PENDING, Phase.STARTING, Phase.SUSPENDED)
"""In these phases no trainer is at work, so the Job may be created again with another pod."""


def immutability_rules() -> list[Schema]:
    """The fields of the spec that never change."""
    rules = []
    for field in fields(TrainingRunSpec):
        name = camel_case(field.name)
        if rule_of(field).immutable and not rule_of(field).while_idle:
            rule = _is_unchanged(field, "self")
            message = f"{name} cannot be changed once the run is created; create another run"
            rules.append(_forbidden(f".{name}", rule, message))
    return rules


def rules_by_phase() -> list[Schema]:
    """The changes of the spec that the run's phase allows or forbids; a rule of the whole object sees both."""
    rules = []
    for field in fields(TrainingRunSpec):
        name = camel_case(field.name)
        if rule_of(field).while_idle:
            rule = f"{_is_unchanged(field, 'self.spec')} || !({_HAS_PHASE}) || self.status.phase in {_phases(_IDLE)}"
            message = f"{name} can be changed only while the run is suspended or waits for its trainer to start"
            rules.append(_forbidden(f".spec.{name}", rule, message))
    done = [phase for phase in Phase if phase.is_done]
    rule = f"self.spec.cancel || !oldSelf.spec.cancel || {_HAS_PHASE} && self.status.phase in {_phases(done)}"
    message = "cancel cannot be taken back before the run is done, and changes nothing then; create another run"
    return [*rules, _forbidden(".spec.cancel", rule, message)]


def _phases(phases: Iterable[Phase]) -> str:
    return f"[{', '.join(repr(phase.value) for phase in phases)}]"


def _is_unchanged(field: Field[Any], path: str) -> str:
    """The rule that the field of the spec at ``path`` (self, self.spec) is as it was."""
    new, old = (f"{start}.{camel_case(field.name)}" for start in (path, path.replace("self", "oldSelf")))
    if _is_always_there(field):
        return f"{new} == {old}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


def _is_always_there(field: Field[Any]) -> bool:
    """Whether a stored resource has the field: it is required, or the API server fills in its default."""
    default = default_of(field)
    return default is MISSING or is_dataclass(default) or isinstance(default, int)


def _forbidden(path: str, rule: str, message: str) -> Schema:
    return {"rule": rule, "message": message, "reason": "FieldValueForbidden", "fieldPath": path}
