"""The rules of tolerations, resources and labels that the table of fields cannot state.

They are checked before a run is created because the operator passes these fields to a Job as they are, and a Job that
the API server refuses is noticed only later. The same rules in CEL are in the schema. Must not know whether there is a
cluster.

Sources: kubernetes.io, "Labels and Selectors", "Taints and Tolerations", and the grammar of resource.Quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from aisandbox_crds.codec import camel_case
from aisandbox_crds.errors import FieldError, short_repr
from aisandbox_crds.field_rules import rule_named, rule_of, value_errors
from aisandbox_crds.label_rules import LABEL_KEYS, reserved_label_errors
from aisandbox_crds.pod_template_rules import pod_template_errors
from aisandbox_crds.spec import Resources, Toleration, TrainingRunSpec

_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2}|)")
_POWERS_OF_10 = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_POWERS_OF_2 = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def scheduling_errors(spec: TrainingRunSpec) -> Iterator[FieldError]:
    """Every rule that the fields from ``resources`` on break."""
    yield from resource_errors(spec.resources)
    yield from reserved_label_errors("labels", spec.labels)
    for index, toleration in enumerate(spec.tolerations):
        yield from _toleration_errors(f"tolerations[{index}]", toleration)
    if spec.pod_template is not None:
        yield from pod_template_errors(spec.pod_template, "pod_template")


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
    most = rule_named(Resources, "requests").max_entries or 0
    read: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
    for kind, entries in resources.items():
        field = f"resources.{kind}"
        if kind not in read:
            yield FieldError(field[:110], "unknown field; known: requests, limits")
        elif not isinstance(entries, Mapping) or len(entries) > most:
            yield FieldError(field, f"must be an object of at most {most} quantities, got {short_repr(entries)}")
        else:
            yield from _quantity_errors(field, entries, read[kind])
    for name, requested in read["requests"].items():
        if requested > read["limits"].get(name, requested):
            yield FieldError(f"resources.requests.{name}", "must not be greater than the limit")


def _quantity_errors(field: str, entries: Mapping[Any, object], read: dict[str, Decimal]) -> Iterator[FieldError]:
    for name, text in entries.items():
        number = quantity(text)
        if not isinstance(name, str) or not LABEL_KEYS.matches(name):
            yield FieldError(field, f"must have names of resources, as cpu or nvidia.com/gpu, got {short_repr(name)}")
        elif number is None:
            yield FieldError(
                f"{field}.{name}", f"must be a quantity of at least 0, such as 2, 500m or 4Gi, got {short_repr(text)}"
            )
        else:
            read[name] = number


def _toleration_errors(field: str, toleration: Mapping[str, Any]) -> Iterator[FieldError]:
    known = {camel_case(each.name): rule_of(each) for each in fields(Toleration)}
    for name in toleration.keys() - known.keys():
        yield FieldError(f"{field}.{name}"[:110], f"unknown field; known: {', '.join(known)}")
    for name, rule in known.items():
        yield from value_errors(toleration.get(name), rule, f"{field}.{name}")
    seconds = toleration.get("tolerationSeconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int) or abs(seconds) >= 2**63):
        yield FieldError(f"{field}.tolerationSeconds", f"must be a whole number, got {short_repr(seconds)}")
    if not toleration.get("key") and toleration.get("operator") != "Exists":
        yield FieldError(field, "must have a key, or the operator Exists, which then matches every taint")
    if toleration.get("value") and toleration.get("operator") == "Exists":
        yield FieldError(field, "must have no value with the operator Exists")
    if seconds is not None and toleration.get("effect") != "NoExecute":
        yield FieldError(field, "must have the effect NoExecute to have tolerationSeconds")
