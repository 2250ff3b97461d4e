from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.scheduling import quantity
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.validation import validate_spec
from hypothesis import given
from hypothesis import strategies as st

SPEC = TrainingRunSpec(Algorithm.PPO, 1000)


def refused_fields(**changes: Any) -> list[str]:
    with pytest.raises(InvalidRun) as caught:
        validate_spec(replace(SPEC, **changes))
    return [error.field for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (2, "2"),
        (0, "0"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("500m", "0.5"),
        ("100k", "100000"),
        ("4Gi", str(4 * 2**30)),
        ("1e3", "1000"),
        ("2E", "2000000000000000000"),
    ],
)
def test_a_quantity_is_a_number(text: object, number: str) -> None:
    assert quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1 Gi", "1gi", "1K", "1KiB", "0x1", "1e", "٣", "nan", 1.5, True, None, -1, "1\n"]
)
def test_what_is_no_quantity_is_none(text: object) -> None:
    assert quantity(text) is None


@given(st.text(max_size=8) | st.integers() | st.text("0123456789.eEKMGimunk", max_size=8))
def test_reading_a_quantity_raises_nothing(text: object) -> None:
    number = quantity(text)
    assert number is None or number >= 0


def test_resources_are_requests_and_limits() -> None:
    validate_spec(
        replace(SPEC, resources={"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"nvidia.com/gpu": 1}})
    )
    validate_spec(replace(SPEC, resources={"requests": {"cpu": 2}, "limits": {"cpu": "2000m"}}))
    assert refused_fields(resources={"claims": [{"name": "gpu"}]}) == ["resources.claims"]
    assert refused_fields(resources={"limits": {"memory": "4GB", "a b": 1}}) == [
        "resources.limits.memory",
        "resources.limits",
    ]
    assert refused_fields(resources={"limits": ["cpu"]}) == ["resources.limits"]
    assert refused_fields(resources={"limits": {f"r{i}": 1 for i in range(33)}}) == ["resources.limits"]
    assert refused_fields(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1900m"}}) == [
        "resources.requests.cpu"
    ]


@pytest.mark.parametrize("field", ["labels", "node_selector"])
@pytest.mark.parametrize(
    "labels",
    [
        {"a b": "c"},
        {"": "c"},
        {"-a": "c"},
        {"a/b/c": "d"},
        {"A/b": "c"},
        {"a": "c d"},
        {"a": "x" * 64},
        {"x" * 64: "a"},
        {"a": "é"},
    ],
)
def test_labels_are_refused_unless_kubernetes_takes_them(field: str, labels: dict[str, str]) -> None:
    assert refused_fields(**{field: labels}) == [field]


@pytest.mark.parametrize("field", ["labels", "node_selector"])
def test_labels_are_taken(field: str) -> None:
    labels = {"kueue.x-k8s.io/queue-name": "trainers", "team": "", "A_b.c": "x" * 63}
    validate_spec(replace(SPEC, **{field: labels}))  # type: ignore[arg-type]
    assert refused_fields(**{field: {f"k{i}": "v" for i in range(65)}}) == [field]


@pytest.mark.parametrize(
    "key",
    ["aisandbox.dev/run", "app.kubernetes.io/name", "batch.kubernetes.io/job-name", "controller-uid", "job-name"],
)
def test_labels_that_others_set_are_refused_but_may_be_selected(key: str) -> None:
    assert refused_fields(labels={key: "x"}) == ["labels"]
    validate_spec(replace(SPEC, node_selector={key: "x"}))


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "gpu"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoExecute", "tolerationSeconds": 60},
    ],
)
def test_tolerations_are_taken(toleration: dict[str, Any]) -> None:
    validate_spec(replace(SPEC, tolerations=(toleration,)))


@pytest.mark.parametrize(
    ("toleration", "field"),
    [
        ({}, "tolerations[1]"),
        ({"operator": "Equal", "value": "a"}, "tolerations[1]"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "tolerations[1]"),
        ({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}, "tolerations[1]"),
        ({"key": "a", "operator": "In"}, "tolerations[1].operator"),
        ({"key": "a", "effect": "Never"}, "tolerations[1].effect"),
        ({"key": "a", "effect": ""}, "tolerations[1].effect"),
        ({"key": "a b"}, "tolerations[1].key"),
        ({"key": ["a"]}, "tolerations[1].key"),
        ({"key": "a", "value": "b c"}, "tolerations[1].value"),
        ({"key": "a", "effect": "NoExecute", "tolerationSeconds": "5"}, "tolerations[1].tolerationSeconds"),
        ({"key": "a", "seconds": 5}, "tolerations[1].seconds"),
    ],
)
def test_tolerations_name_what_is_wrong(toleration: dict[str, Any], field: str) -> None:
    assert refused_fields(tolerations=({"key": "fine"}, toleration)) == [field]


def test_tolerations_are_bounded() -> None:
    assert refused_fields(tolerations=({"key": "a"},) * 65) == ["tolerations"]


@given(st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text() | st.integers(), st.lists), max_size=3))
def test_validation_raises_nothing_else(entries: dict[str, Any]) -> None:
    for change in ({"tolerations": (entries,)}, {"resources": entries}, {"resources": {"limits": entries}}):
        with suppress(InvalidRun):
            validate_spec(replace(SPEC, **change))


@pytest.mark.parametrize("name", ["high", "system-node-critical", "a.b-c"])
def test_names_of_priority_classes_are_taken(name: str) -> None:
    validate_spec(replace(SPEC, priority_class_name=name))


@pytest.mark.parametrize("name", ["High", "a_b", "-a", "a..b", "x" * 254, "a\n"])
def test_names_of_priority_classes_are_refused(name: str) -> None:
    assert refused_fields(priority_class_name=name) == ["priority_class_name"]
