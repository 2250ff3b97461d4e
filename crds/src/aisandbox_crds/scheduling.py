"""The rules of a spec's fields that are Kubernetes' own: labels, selectors, tolerations, resources, priority.

They are checked before a run is created because the operator passes them to a Job as they are, and a Job that the API
server refuses is noticed only later. The same rules are in trainingrun.yaml. Must not know whether there is a cluster.

Sources: kubernetes.io, "Labels and Selectors", "Taints and Tolerations", and the grammar of resource.Quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from aisandbox_crds.errors import FieldError, short_repr
from aisandbox_crds.spec import TrainingRunSpec

MAX_LABELS = 64
MAX_TOLERATIONS = 64
MAX_RESOURCES = 32
RESERVED_PREFIXES = ("aisandbox.dev/", "app.kubernetes.io/", "batch.kubernetes.io/")
RESERVED_LABELS = ("controller-uid", "job-name")
"""Labels of the Job and its pods that the operator or Kubernetes sets."""

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2}|)")
_POWERS_OF_10 = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_POWERS_OF_2 = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

TOLERATION_KEYS = ("key", "operator", "value", "effect", "tolerationSeconds")
_OPERATORS = ("Exists", "Equal")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def scheduling_errors(spec: TrainingRunSpec) -> Iterator[FieldError]:
    """Every rule that the fields from ``resources`` on break."""
    yield from resource_errors(spec.resources)
    yield from _label_errors("node_selector", spec.node_selector)
    yield from _label_errors("labels", spec.labels)
    for key in spec.labels:
        if key.startswith(RESERVED_PREFIXES) or key in RESERVED_LABELS:
            yield FieldError("labels", f"must not have the key {short_repr(key)}, which the operator or the Job sets")
    if len(spec.tolerations) > MAX_TOLERATIONS:
        yield FieldError("tolerations", f"has {len(spec.tolerations)} entries; at most {MAX_TOLERATIONS}")
    for index, toleration in enumerate(spec.tolerations):
        yield from _toleration_errors(f"tolerations[{index}]", toleration)
    name = spec.priority_class_name
    if name and not (len(name) <= 253 and _SUBDOMAIN.fullmatch(name)):
        rule = (
            f"must be the name of a PriorityClass, in lower case letters, digits, '-' and '.', got {short_repr(name)}"
        )
        yield FieldError("priority_class_name", rule)


def quantity(text: object) -> Decimal | None:
    """The number a Kubernetes quantity of at least 0 stands for, as 2, ``500m`` or ``4Gi``; None if it is none."""
    if isinstance(text, bool) or not isinstance(text, int | str):
        return None
    match = _QUANTITY.fullmatch(str(text)) if isinstance(text, str) or 0 <= text < 2**63 else None
    if match is None:
        return None
    number, suffix = match.groups()
    if suffix in _POWERS_OF_2:
        return Decimal(number) * (1 << _POWERS_OF_2[suffix])
    power = _POWERS_OF_10[suffix] if suffix in _POWERS_OF_10 else int(suffix[1:])
    return Decimal(number).scaleb(power)


def resource_errors(resources: Mapping[str, Any]) -> Iterator[FieldError]:
    """Every rule that the resources of a container break."""
    read: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
    for kind, entries in resources.items():
        field = f"resources.{kind}"
        if kind not in read:
            yield FieldError(field[:110], "unknown field; known: requests, limits")
        elif not isinstance(entries, Mapping) or len(entries) > MAX_RESOURCES:
            yield FieldError(
                field, f"must be an object of at most {MAX_RESOURCES} quantities, got {short_repr(entries)}"
            )
        else:
            yield from _quantity_errors(field, entries, read[kind])
    for name, requested in read["requests"].items():
        if requested > read["limits"].get(name, requested):
            yield FieldError(f"resources.requests.{name}", "must not be greater than the limit")


def _quantity_errors(field: str, entries: Mapping[Any, object], read: dict[str, Decimal]) -> Iterator[FieldError]:
    for name, text in entries.items():
        number = quantity(text)
        if not isinstance(name, str) or not _KEY.fullmatch(name):
            yield FieldError(field, f"must have names of resources, as cpu or nvidia.com/gpu, got {short_repr(name)}")
        elif number is None:
            yield FieldError(
                f"{field}.{name}", f"must be a quantity of at least 0, as 2, 500m or 4Gi, got {short_repr(text)}"
            )
        else:
            read[name] = number


def _label_errors(field: str, labels: Mapping[str, str]) -> Iterator[FieldError]:
    if len(labels) > MAX_LABELS:
        yield FieldError(field, f"has {len(labels)} entries; at most {MAX_LABELS}")
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            rule = "must have keys that are Kubernetes label keys, as team or example.com/team"
            yield FieldError(field, f"{rule}, got {short_repr(key)}")
        if not _VALUE.fullmatch(value):
            rule = "must have values that are Kubernetes label values: at most 63 letters, digits, '-', '_' and '.'"
            yield FieldError(field, f"{rule}, got {short_repr(value)}")


def _toleration_errors(field: str, toleration: Mapping[str, Any]) -> Iterator[FieldError]:
    def text(name: str) -> Any:
        return toleration.get(name) or ""

    for name in toleration.keys() - set(TOLERATION_KEYS):
        yield FieldError(f"{field}.{name}"[:110], f"unknown field; known: {', '.join(TOLERATION_KEYS)}")
    if text("key") and not (isinstance(text("key"), str) and _KEY.fullmatch(text("key"))):
        yield FieldError(f"{field}.key", f"must be the key of a taint, as a label's, got {short_repr(text('key'))}")
    if not isinstance(text("value"), str) or not _VALUE.fullmatch(text("value")):
        yield FieldError(
            f"{field}.value", f"must be the value of a taint, as a label's, got {short_repr(text('value'))}"
        )
    for name, known in (("operator", _OPERATORS), ("effect", _EFFECTS)):
        said = toleration.get(name)
        if said is not None and said not in known:
            yield FieldError(f"{field}.{name}", f"must be one of {', '.join(known)}, got {short_repr(said)}")
    seconds = toleration.get("tolerationSeconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int) or abs(seconds) >= 2**63):
        yield FieldError(f"{field}.tolerationSeconds", f"must be a whole number, got {short_repr(seconds)}")
    if not text("key") and text("operator") != "Exists":
        yield FieldError(field, "must have a key, or the operator Exists, which then matches every taint")
    if text("value") and text("operator") == "Exists":
        yield FieldError(field, "must have no value with the operator Exists")
    if seconds is not None and text("effect") != "NoExecute":
        yield FieldError(field, "must have the effect NoExecute to have tolerationSeconds")
