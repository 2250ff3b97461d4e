"""``TrainingRequest.placement`` as fields of a run's spec.

Owns the translation and the names of its fields in errors; the rules are aisandbox_crds's. Must not know whether there
is a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_crds import QUEUE_LABEL, FieldError, InvalidRun, PodTemplate, pod_template_from_json

from aisandbox_api.struct_values import struct_values

_FIELDS = ("resources", "node_selector", "tolerations", "priority_class_name", "labels", "pod_template")


def placement_fields(placement: pb.Placement, errors: list[FieldError]) -> dict[str, Any]:
    """The fields of TrainingRunSpec from ``resources`` on, without those that the placement does not set."""
    resources = {"requests": dict(placement.requests), "limits": dict(placement.limits)}
    fields = {
        "resources": {name: amounts for name, amounts in resources.items() if amounts},
        "node_selector": dict(placement.node_selector),
        "tolerations": tuple(_toleration(each) for each in placement.tolerations),
        "priority_class_name": placement.priority_class_name,
        "labels": _labels(placement, errors),
        "pod_template": _pod_template(placement, errors),
    }
    return {name: value for name, value in fields.items() if value}


def named_by_clients(error: FieldError) -> FieldError:
    """The error with the field of the request in place of the spec's, if that is the placement's."""
    first, _, rest = error.field.partition(".")
    if first.partition("[")[0] not in _FIELDS:
        return error
    return FieldError(
        f"placement.{rest or 'resources'}" if first == "resources" else f"placement.{error.field}", error.rule
    )


def _labels(placement: pb.Placement, errors: list[FieldError]) -> Mapping[str, str]:
    labels = dict(placement.labels)
    if placement.queue and labels.get(QUEUE_LABEL, placement.queue) != placement.queue:
        rule = f"is {placement.queue[:80]!r}, and labels has another {QUEUE_LABEL}: give one of them"
        errors.append(FieldError("placement.queue", rule))
    return {**labels, QUEUE_LABEL: placement.queue} if placement.queue else labels


def _toleration(toleration: pb.Toleration) -> dict[str, Any]:
    texts = {name: getattr(toleration, name) for name in ("key", "operator", "value", "effect")}
    known: dict[str, Any] = {name: text for name, text in texts.items() if text}
    if toleration.HasField("toleration_seconds"):
        known["tolerationSeconds"] = toleration.toleration_seconds
    return known


def _pod_template(placement: pb.Placement, errors: list[FieldError]) -> PodTemplate | None:
    if not placement.HasField("pod_template"):
        return None
    field = "placement.pod_template"
    before = len(errors)
    values = struct_values(placement.pod_template, field, errors)
    if len(errors) > before:
        return None
    try:
        return pod_template_from_json(values, field)
    except InvalidRun as error:
        errors.extend(error.errors)
        return None
