"""trainingrun.yaml and the dataclasses say the same, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from aisandbox_crds.codec import ENVIRONMENT_KINDS, camel_case, spec_from_json, spec_to_json
from aisandbox_crds.conditions import Condition, ConditionType
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.hyperparameter_table import parameters_of
from aisandbox_crds.label_rules import RESERVED_LABELS, RESERVED_PREFIXES
from aisandbox_crds.naming import is_run_name
from aisandbox_crds.spec import Algorithm, Environment, TrainingRunSpec
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.trainingrun import GROUP, KIND, VERSION
from aisandbox_crds.validation import validate_spec

Schema = Mapping[str, Any]

RESOURCE = yaml.safe_load((Path(__file__).parents[3] / "crds" / "trainingrun.yaml").read_text(encoding="utf-8"))
(RESOURCE_VERSION,) = RESOURCE["spec"]["versions"]
SCHEMA: Schema = RESOURCE_VERSION["schema"]["openAPIV3Schema"]
SPEC: Schema = SCHEMA["properties"]["spec"]
STATUS: Schema = SCHEMA["properties"]["status"]
CHANGEABLE = {"suspend", "cancel", "ttlSecondsAfterFinished"}
WHILE_IDLE = {"resources", "nodeSelector", "tolerations", "priorityClassName", "labels", "podTemplate"}
FREE_FORM = {
    *("kwargs", "options", "parameters", "affinity", "securityContext"),
    *("topologySpreadConstraints[]", "volumes[]", "volumeMounts[]"),
}


def dataclass_schemas(cls: type, schema: Schema, path: str) -> Iterator[tuple[str, Field[Any], Any, Schema]]:
    """Every field of the dataclass and of those in it: its path, itself, its type without None, and its schema."""
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    properties = schema.get("properties", {})
    assert set(properties) == {camel_case(field.name) for field in fields(cls)}, f"the fields of {path}"
    for field in fields(cls):
        name = camel_case(field.name)
        kind = hints[field.name]
        if get_origin(kind) in (Union, UnionType) and kind != Environment:
            (kind,) = (option for option in get_args(kind) if option is not NoneType)
        inner = properties[name]
        yield f"{path}.{name}", field, kind, inner
        if kind == Environment:
            assert set(inner["properties"]) == set(ENVIRONMENT_KINDS)
            for key, environment in ENVIRONMENT_KINDS.items():
                yield from dataclass_schemas(environment, inner["properties"][key], f"{path}.{name}.{key}")
        elif get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
            yield from dataclass_schemas(get_args(kind)[0], inner["items"], f"{path}.{name}[]")
        elif is_dataclass(kind):
            yield from dataclass_schemas(kind, inner, f"{path}.{name}")  # type: ignore[arg-type]


FIELDS = [
    *dataclass_schemas(TrainingRunSpec, SPEC, "spec"),
    *dataclass_schemas(TrainingRunStatus, STATUS, "status"),
]
BY_PATH = {path: schema for path, _, _, schema in FIELDS}


def all_schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from all_schemas(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from all_schemas(schema[key], f"{path}[]")


def rules(schema: Schema) -> list[Schema]:
    found: list[Schema] = schema.get("x-kubernetes-validations", [])
    return found


def json_type(kind: Any) -> str:
    if get_origin(kind) is Mapping or is_dataclass(kind) or kind == Environment:
        return "object"
    if get_origin(kind) is tuple:
        return "array"
    names: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return "string" if issubclass(kind, StrEnum) else names[kind]


def test_names_are_those_of_the_package() -> None:
    assert RESOURCE["metadata"]["name"] == f"{RESOURCE['spec']['names']['plural']}.{GROUP}"
    assert (RESOURCE["spec"]["group"], RESOURCE_VERSION["name"]) == (GROUP, VERSION)
    assert RESOURCE["spec"]["names"]["kind"] == KIND


@pytest.mark.parametrize(("path", "kind", "schema"), [(path, kind, schema) for path, _, kind, schema in FIELDS])
def test_types_are_those_of_the_dataclasses(path: str, kind: Any, schema: Schema) -> None:
    assert schema["type"] == json_type(kind), path
    if get_origin(kind) is Mapping and get_args(kind)[1] is str:
        assert schema["additionalProperties"]["type"] == "string", path
    if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not ConditionType:
        assert schema["enum"] == [member.value for member in kind], path


def test_required_are_the_fields_without_a_default() -> None:
    for path, field, _, _ in FIELDS:
        outer = path.rpartition(".")[0]
        owner = {"spec": SPEC, "status": STATUS}.get(outer) or BY_PATH.get(outer) or BY_PATH.get(outer[:-2])
        if owner is None:  # One of the environments.
            *_, name = outer.split(".")
            owner = BY_PATH["spec.environment"]["properties"][name]
        owner = owner.get("items", owner)
        needed = field.default is MISSING and field.default_factory is MISSING
        assert (path.rpartition(".")[2] in owner.get("required", [])) == needed, path


def test_defaults_are_those_of_the_dataclasses() -> None:
    for path, field, _, schema in FIELDS:
        if path == "spec.environment":
            filled_in = spec_from_json({"algorithm": "PPO", "totalTimesteps": 1})
            assert schema["default"] == spec_to_json(filled_in)["environment"]
        elif path.startswith("status") or field.default is MISSING or field.default in (None, "", ()):
            assert "default" not in schema, path
        else:
            assert schema["default"] == field.default, path


def test_every_field_is_described_in_sentences() -> None:
    for path, schema in all_schemas(SCHEMA, "run"):
        is_free_entry = path.endswith("[]") and "properties" not in schema
        if is_free_entry or path == "run.metadata":
            continue
        assert re.fullmatch(r"\S.*\.", schema.get("description", ""), re.DOTALL), path


def test_only_what_is_anybodys_may_hold_unknown_fields() -> None:
    free = {path for path, schema in all_schemas(SCHEMA, "run") if "x-kubernetes-preserve-unknown-fields" in schema}
    assert {path.rpartition(".")[2] for path in free} == FREE_FORM


def test_every_rule_has_a_sentence() -> None:
    for path, schema in all_schemas(SCHEMA, "run"):
        for rule in rules(schema):
            assert len(rule["message"]) > 10, path
            assert "\n" not in rule["rule"], path


def test_what_the_run_is_asked_to_do_is_immutable() -> None:
    immutable = {
        rule["fieldPath"].removeprefix("."): rule["rule"]
        for rule in rules(SPEC)
        if "cannot be changed once the run is created" in rule["message"]
    }
    assert set(immutable) == set(SPEC["properties"]) - CHANGEABLE - WHILE_IDLE
    for name, rule in immutable.items():
        always_there = name in SPEC["required"] or "default" in SPEC["properties"][name]
        equal = f"self.{name} == oldSelf.{name}"
        assert rule == (
            equal if always_there else f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {equal})"
        )


def test_what_shapes_the_pod_can_be_changed_while_no_trainer_is_at_work() -> None:
    by_phase = {rule["fieldPath"]: rule["rule"] for rule in rules(SCHEMA) if "fieldPath" in rule}
    assert set(by_phase) == {f".spec.{name}" for name in (*WHILE_IDLE, "cancel")}
    for name in WHILE_IDLE:
        (unchanged, *phases) = by_phase[f".spec.{name}"].split(" || ")[-3:]
        assert f"self.spec.{name} == oldSelf.spec.{name}" in unchanged
        assert phases == [
            "!(has(self.status) && has(self.status.phase))",
            "self.status.phase in ['Pending', 'Starting', 'Suspended']",
        ]


def test_cancel_can_be_taken_back_when_the_run_is_done() -> None:
    (rule,) = (rule for rule in rules(SCHEMA) if rule.get("fieldPath") == ".spec.cancel")
    assert rule["rule"] == (
        "self.spec.cancel || !oldSelf.spec.cancel || has(self.status) && has(self.status.phase) && "
        "self.status.phase in ['Succeeded', 'Failed', 'Cancelled']"
    )


def test_run_is_in_no_category_that_a_clean_up_deletes() -> None:
    assert RESOURCE["spec"]["names"]["categories"] == ["aisandbox"]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_hyperparameters_named_are_those_of_the_table(algorithm: Algorithm) -> None:
    (rule,) = (rule for rule in rules(SPEC) if rule["rule"].startswith(f"self.algorithm != '{algorithm}'"))
    known = sorted(parameter.name for parameter in parameters_of(algorithm))
    listed = ", ".join(f"'{name}'" for name in known)
    expected = f"!has(self.hyperparameters) || self.hyperparameters.all(k, k in [{listed}])"
    assert rule["rule"] == f"self.algorithm != '{algorithm}' || {expected}"
    assert rule["message"] == f"{algorithm} has the hyperparameters {', '.join(known)}, and no others"


RANGES = [
    (path, bound, beyond)
    for path, _, _, schema in FIELDS
    if path.startswith("spec.") and "[]" not in path and schema["type"] == "integer"
    for bound, beyond in ((schema["minimum"], schema["minimum"] - 1), (schema["maximum"], schema["maximum"] + 1))
]


@pytest.mark.parametrize(("path", "bound", "beyond"), RANGES)
def test_ranges_are_those_of_the_validation(path: str, bound: int, beyond: int) -> None:
    def spec(value: int) -> TrainingRunSpec:
        data: dict[str, Any] = {"algorithm": "PPO", "totalTimesteps": 10}
        if path.startswith("spec.stopWhen"):  # what could never be reached is refused
            data |= {"totalTimesteps": 10**12, "evaluation": {}, "checkpointEveryTimesteps": 1}
        inner = data
        *outer, name = path.split(".")[1:]
        for key in outer:
            given = {
                "grpc": {"address": "a:1"},
                "pool": {"name": "a"},
                "stopWhen": {"episodeRewardMean": 1.5},
                "demonstrations": {"file": "a.parquet"},
            }
            inner = inner.setdefault(key, given.get(key, {}))
        inner[name] = value
        return spec_from_json(data)

    validate_spec(spec(bound))
    with pytest.raises(InvalidRun):
        validate_spec(spec(beyond))


def many(count: int) -> dict[str, str]:
    return {f"k{number}": "1" for number in range(count)}


SIZES = [
    ("hyperparameters.maxProperties", lambda count: {"hyperparameters": many(count)}),
    ("labels.maxProperties", lambda count: {"labels": many(count)}),
    ("nodeSelector.maxProperties", lambda count: {"nodeSelector": many(count)}),
    ("resources.requests.maxProperties", lambda count: {"resources": {"requests": many(count)}}),
    ("resources.limits.maxProperties", lambda count: {"resources": {"limits": many(count)}}),
    ("tolerations.maxItems", lambda count: {"tolerations": [{"operator": "Exists"}] * count}),
    ("modelOutputPath.maxLength", lambda count: {"modelOutputPath": ("d" * 200 + "/") * 5 + "m" * (count - 1005)}),
    ("priorityClassName.maxLength", lambda count: {"priorityClassName": "p" * count}),
    ("environment.gymnasium.id.maxLength", lambda count: {"environment": {"gymnasium": {"id": "e" * count}}}),
    ("environment.pool.name.maxLength", lambda count: {"environment": {"pool": {"name": "p" * count}}}),
    ("environment.grpc.address.maxLength", lambda count: {"environment": {"grpc": {"address": addresses(count)}}}),
]


def addresses(length: int) -> str:
    """As few addresses as have that many characters in all."""
    one = "a" * 60 + ":1,"
    return one * (length // len(one)) + "b" * (length % len(one) - 2) + ":1"


@pytest.mark.parametrize(("path", "value"), SIZES, ids=[path for path, _ in SIZES])
def test_sizes_are_those_of_the_validation(path: str, value: Callable[[int], dict[str, Any]]) -> None:
    found: Any = SPEC
    *outer, limit = path.split(".")
    for name in outer:
        found = found["properties"][name]
    most = found[limit]
    field = re.escape(".".join(re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", name) for name in outer))
    assert re.search(rf"{field}: .*{most:,}|{field}: .*{most}", refusal(value(most + 1)))
    assert not re.search(rf"{field}: .*at most", refusal(value(most)))


def refusal(fields: Mapping[str, Any]) -> str:
    """What the validation says of a spec with these fields; empty if it takes it."""
    try:
        validate_spec(spec_from_json({"algorithm": "PPO", "totalTimesteps": 10, **fields}))
    except InvalidRun as error:
        return str(error)
    return ""


def test_kubernetes_own_objects_have_the_fields_the_validation_knows() -> None:
    for name in SPEC["properties"]["tolerations"]["items"]["properties"]:
        assert f"tolerations[0].{name}: must be" in refusal({"tolerations": [{name: [1]}]})
    assert set(SPEC["properties"]["resources"]["properties"]) == {"requests", "limits"}


def test_reserved_labels_are_those_of_the_validation() -> None:
    text = " ".join(rule["rule"] for rule in rules(SPEC["properties"]["labels"]))
    for reserved in (*RESERVED_PREFIXES, *RESERVED_LABELS):
        assert f"'{reserved}'" in text


def test_the_rule_of_the_name_is_that_of_run_names() -> None:
    rule = rules(SCHEMA)[0]
    pattern = re.search(r"matches\('(.*)'\)", rule["rule"])
    assert pattern is not None
    for name in ("a", "a-b", "a" * 52, "a" * 53, "-a", "a-", "A", "a.b", "", "a_b", "0"):
        assert (re.search(pattern[1], name) is not None) == is_run_name(name), name


def test_conditions_are_a_map_by_type_and_open_to_other_types() -> None:
    conditions = STATUS["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "enum" not in conditions["items"]["properties"]["type"]
    assert all(kind in conditions["description"] for kind in ConditionType)
    assert set(conditions["items"]["properties"]) == {camel_case(field.name) for field in fields(Condition)}


def test_what_two_writers_replace_as_a_whole_is_atomic() -> None:
    for name in ("latestCheckpoint", "latestModel", "bestModel", "resumedFrom", "failure"):
        assert STATUS["properties"][name]["x-kubernetes-map-type"] == "atomic"
    assert "x-kubernetes-map-type" not in STATUS["properties"]["progress"]


def test_columns_and_selectable_fields_name_what_exists() -> None:
    columns = RESOURCE_VERSION["additionalPrinterColumns"]
    paths = {column["jsonPath"]: column["type"] for column in columns}
    assert paths.pop(".metadata.creationTimestamp") == "date"
    assert paths.pop(".spec.environment.*['id','address','name']") == "string"
    assert {
        "spec.environment.gymnasium.id",
        "spec.environment.grpc.address",
        "spec.environment.pool.name",
    } <= BY_PATH.keys()
    for path, kind in paths.items():
        assert BY_PATH[path.removeprefix(".")]["type"] in {kind, "number" if kind == "integer" else kind}
    for selectable in RESOURCE_VERSION["selectableFields"]:
        assert BY_PATH[selectable["jsonPath"].removeprefix(".")]["type"] == "string"
    wide = {column["name"] for column in columns if column.get("priority")}
    assert wide == {"Lesson", "Stopped", "Restarts", "Checkpoint", "Environment"}
