"""The CustomResourceDefinition of TrainingRun, made of the dataclasses and the rules of their fields.

Owns what no field has: names, columns, and the rules across fields, which are written by hand in CEL. Needs Kubernetes
1.31 or later (selectableFields, quantities in CEL). Must not know how the resource is written down.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from aisandbox_crds.algorithms import ALGORITHMS
from aisandbox_crds.codec import ENVIRONMENT_KINDS, camel_case
from aisandbox_crds.field_rules import CelRule, FieldRule, rule_of
from aisandbox_crds.hyperparameter_table import parameters_of
from aisandbox_crds.lessons import DEFAULT_WINDOW, LessonEnd
from aisandbox_crds.spec import (
    Algorithm,
    Demonstrations,
    Environment,
    PoolEnvironment,
    Resources,
    StartFrom,
    StopWhen,
    Toleration,
    TrainingRunSpec,
)
from aisandbox_crds.status import Phase, TrainingRunStatus
from aisandbox_crds.trainingrun import GROUP, KIND, VERSION

Schema = dict[str, Any]

# Of these the API server fills in the numbers that are absent.
_FILLED_IN = {each.__module__ for each in (TrainingRunSpec, Demonstrations, PoolEnvironment, StopWhen)}

_JSON_TYPES: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_RULES = "x-kubernetes-validations"
_PRESERVE = "x-kubernetes-preserve-unknown-fields"

COLUMNS: tuple[Schema, ...] = (
    {"name": "Algorithm", "type": "string", "jsonPath": ".spec.algorithm"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {
        "name": "Progress",
        "type": "integer",
        "description": "Percent of totalTimesteps.",
        "jsonPath": ".status.progress.progressPercentage",
    },
    {
        "name": "Timesteps",
        "type": "integer",
        "description": "Environment steps taken.",
        "jsonPath": ".status.progress.timesteps",
    },
    {
        "name": "Reward",
        "type": "number",
        "description": "Mean undiscounted return of the last episodes of training.",
        "jsonPath": ".status.progress.episodeRewardMean",
    },
    {
        "name": "Lesson",
        "type": "string",
        "description": "The lesson that the run is in.",
        "priority": 1,
        "jsonPath": ".status.progress.lesson.name",
    },
    {
        "name": "Stopped",
        "type": "string",
        "description": "Which rule of stopWhen has ended the run early.",
        "priority": 1,
        "jsonPath": ".status.earlyStop.reason",
    },
    {
        "name": "Restarts",
        "type": "integer",
        "description": "Attempts after the first that no suspend explains.",
        "priority": 1,
        "jsonPath": ".status.restarts",
    },
    {
        "name": "Checkpoint",
        "type": "string",
        "description": "The latest checkpoint, relative to the run's folder.",
        "priority": 1,
        "jsonPath": ".status.latestCheckpoint.path",
    },
    {
        "name": "Environment",
        "type": "string",
        "description": "The Gymnasium id, the simulators' address or the pool.",
        "priority": 1,
        "jsonPath": ".spec.environment.*['id','address','name']",
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)
"""What ``kubectl get trainingruns`` shows; those with a priority only with ``-o wide``."""

_RUN = (
    "A TrainingRun trains one policy with stable-baselines3 and publishes checkpoints and models to the volume of "
    "models. Creating one starts it; the operator turns it into a Job of the same name. Of its spec suspend, cancel "
    "and ttlSecondsAfterFinished can be changed, and, while no trainer is at work, what shapes its pod. Deleting it "
    "ends the run and deletes its Job; its files are removed some days later."
)
_SPEC = (
    "What the run is asked to do. It cannot be changed once the run is created, except for suspend, cancel and "
    "ttlSecondsAfterFinished, and, while the run is suspended or waits to start, resources, nodeSelector, tolerations, "
    "priorityClassName, labels and podTemplate; to train with something else, create another run."
)
_STATUS = (
    "What has become of the run. The operator writes phase, conditions, attempts and the end; the api-server writes "
    "progress, checkpoints and models while the run trains, once in 5 seconds on average."
)
_NAME = CelRule(
    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$')",
    "metadata.name must be a DNS label of at most 52 characters (lower case letters, digits and '-'), because the Job "
    "and its pods are named after the run",
)
_HAS_PHASE = "has(self.status) && has(self.status.phase)"
_IDLE = (Phase.PENDING, Phase.STARTING, Phase.SUSPENDED)
"""In these phases no trainer is at work, so the Job may be created again with another pod."""
_UNSEEN = {"observedGeneration": 0}
"""The status of a run that the operator has not seen: tools that wait by kstatus' rules take one without for done."""
_ONE_ENVIRONMENT = CelRule(
    "[has(self.gymnasium), has(self.grpc), has(self.pool), has(self.fake)].filter(said, said).size() == 1",
    "environment must have exactly one of gymnasium, grpc, pool and fake",
)
_WINDOW = f"(has(self.overEpisodes) ? self.overEpisodes : {DEFAULT_WINDOW})"
_ACROSS_FIELDS: Mapping[type, tuple[CelRule, ...]] = {
    LessonEnd: (
        CelRule(
            "has(self.reward) || has(self.episodes) || has(self.timesteps)",
            "must have at least one of reward, episodes and timesteps",
        ),
        CelRule("!has(self.overEpisodes) || has(self.reward)", "must have a reward to have overEpisodes"),
        CelRule(
            f"!has(self.reward) || (!has(self.episodes) || self.episodes >= {_WINDOW}) && "
            f"(!has(self.timesteps) || self.timesteps >= {_WINDOW})",
            f"the reward can never be reached: it is the mean of overEpisodes ({DEFAULT_WINDOW}) episodes, and the "
            "lesson ends before they have ended",
        ),
    ),
    PoolEnvironment: (
        CelRule(
            "self.environments == 0 || self.minimum <= self.environments",
            "minimum must not be more than environments",
        ),
    ),
    StartFrom: (
        CelRule(
            "(has(self.run) && self.run != '') != (has(self.zip) && self.zip != '')",
            "must have exactly one of run and zip",
        ),
        CelRule(
            "!has(self.zip) || self.zip == '' || (!has(self.model) || self.model == '') && (!has(self.checkpoint) || "
            "self.checkpoint == '') && !(has(self.take) && 'normalization' in self.take)",
            "zip must be set without model, checkpoint and the part normalization",
        ),
        CelRule(
            "!has(self.model) || self.model == '' || !has(self.checkpoint) || self.checkpoint == ''",
            "must have one of model and checkpoint only",
        ),
        CelRule(
            "has(self.checkpoint) && self.checkpoint != '' || !has(self.take) || !('optimizer' in self.take || "
            "'replayBuffer' in self.take)",
            "optimizer and replayBuffer are parts of a checkpoint only: set checkpoint",
        ),
    ),
    StopWhen: (
        CelRule(
            "has(self.episodeRewardMean) || has(self.evaluationRewardMean) || "
            "self.evaluationsWithoutImprovement > 0 || self.trainingSeconds > 0",
            "must have at least one of episodeRewardMean, evaluationRewardMean, evaluationsWithoutImprovement and "
            "trainingSeconds",
        ),
        CelRule(
            "self.timesInARow == 1 || has(self.episodeRewardMean) || has(self.evaluationRewardMean)",
            "timesInARow counts how often a mean return is reached: set episodeRewardMean or evaluationRewardMean",
        ),
    ),
    Resources: (
        CelRule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            "requests must not be greater than limits",
        ),
    ),
    Toleration: (
        CelRule(
            "has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
            "must have a key, or the operator Exists, which then matches every taint",
        ),
        CelRule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "must have no value with the operator Exists",
        ),
        CelRule(
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "must have the effect NoExecute to have tolerationSeconds",
        ),
    ),
}
"""Rules that concern several fields of one object. Their Python is in validation.py, start_rules.py, stop_rules.py,
lesson_rules.py and scheduling.py."""

_FILES_RULE = CelRule(
    "!has(self.startFrom) || !has(self.startFrom.zip) || self.startFrom.zip == '' || !has(self.demonstrations) || "
    "!(self.demonstrations.file + '/').startsWith(self.startFrom.zip + '/') && "
    "!(self.startFrom.zip + '/').startsWith(self.demonstrations.file + '/')",
    "demonstrations.file must be another file than startFrom.zip, and neither inside the other",
)
_START_RULE = CelRule(
    "!has(self.startFrom) || !has(self.startFrom.take) || !('replayBuffer' in self.startFrom.take) || "
    f"self.algorithm in [{', '.join(repr(str(each)) for each, traits in ALGORITHMS.items() if traits.off_policy)}]",
    "startFrom.take has replayBuffer, which the algorithm does not have",
)
_EVALUATION_INTERVAL = (
    "(self.evaluation.everyTimesteps > 0 ? self.evaluation.everyTimesteps : self.checkpointEveryTimesteps > 0 ? "
    "self.checkpointEveryTimesteps : self.totalTimesteps > 1000000 ? 100000 : self.totalTimesteps > 10 ? "
    "self.totalTimesteps / 10 : 1)"
)
_STOPS = "!has(self.stopWhen)"
_STOP_RULES: tuple[CelRule, ...] = (
    CelRule(
        f"{_STOPS} || has(self.evaluation) || !has(self.stopWhen.evaluationRewardMean) && "
        "self.stopWhen.evaluationsWithoutImprovement == 0",
        "stopWhen.evaluationRewardMean and stopWhen.evaluationsWithoutImprovement are never reached without "
        "evaluations: set evaluation",
    ),
    CelRule(
        f"{_STOPS} || !has(self.evaluation) || (has(self.stopWhen.evaluationRewardMean) ? self.stopWhen.timesInARow "
        f": 0) <= (self.totalTimesteps - 1) / {_EVALUATION_INTERVAL}",
        "stopWhen.evaluationRewardMean is never reached: there are fewer evaluations before the end than timesInARow",
    ),
    CelRule(
        f"{_STOPS} || !has(self.evaluation) || self.stopWhen.evaluationsWithoutImprovement == 0 || "
        f"self.stopWhen.evaluationsWithoutImprovement < (self.totalTimesteps - 1) / {_EVALUATION_INTERVAL}",
        "stopWhen.evaluationsWithoutImprovement is never reached: there are not as many evaluations, and one more, "
        "before the end",
    ),
    CelRule(
        f"{_STOPS} || !has(self.activeDeadlineSeconds) || self.stopWhen.trainingSeconds < self.activeDeadlineSeconds",
        "stopWhen.trainingSeconds is never reached: the run fails after its activeDeadlineSeconds",
    ),
)
"""Which of stopWhen could never end the run. What follows from hyperparameters too is in stop_rules.py only."""

_QUANTITY: Schema = {
    "x-kubernetes-int-or-string": True,
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "maxLength": 64,
    _RULES: [
        {
            "rule": "isQuantity(string(self)) && string(self).matches('^[.]?[0-9]')",
            "message": "must be a quantity of at least 0, as 2, 500m or 4Gi",
        }
    ],
}


def resource() -> Schema:
    """The whole CustomResourceDefinition."""
    plural = f"{KIND.lower()}s"
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".spec.algorithm"}, {"jsonPath": ".status.phase"}],
        "additionalPrinterColumns": [dict(column) for column in COLUMNS],
        "schema": {"openAPIV3Schema": run_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": plural, "app.kubernetes.io/part-of": "aisandbox"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": plural,
                "singular": KIND.lower(),
                "shortNames": ["trun"],
                "categories": ["aisandbox"],  # not "all": `kubectl delete all --all` would delete what was trained
            },
            "versions": [version],
        },
    }


def run_schema() -> Schema:
    """The OpenAPI schema of the resource."""
    spec = object_schema(TrainingRunSpec, _SPEC)
    spec[_RULES] = [
        *_immutability_rules(),
        *_hyperparameter_rules(),
        *map(_rule, (_START_RULE, _FILES_RULE, *_STOP_RULES)),
    ]
    return {
        "type": "object",
        "description": _RUN,
        "required": ["spec"],
        _RULES: [_rule(_NAME), *_rules_by_phase()],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{KIND}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {**object_schema(TrainingRunStatus, _STATUS), "default": dict(_UNSEEN)},
        },
    }


def object_schema(cls: type, description: str) -> Schema:
    """The schema of a dataclass; a field without a default is required."""
    hints = get_type_hints(cls)
    required = [camel_case(field.name) for field in fields(cls) if _default(field) is MISSING]
    return {
        "type": "object",
        "description": description,
        **({"required": required} if required else {}),
        **({_RULES: [_rule(rule) for rule in _ACROSS_FIELDS[cls]]} if cls in _ACROSS_FIELDS else {}),
        "properties": {camel_case(field.name): field_schema(cls, field, hints[field.name]) for field in fields(cls)},
    }


def field_schema(cls: type, field: Field[Any], hint: Any) -> Schema:
    """The schema of one field of ``cls``, whose type is ``hint``."""
    rule, kind = rule_of(field), _without_none(hint)
    if kind == Environment:
        schema = _environment_schema(rule)
    elif rule.shape is not None and get_origin(kind) is not tuple:
        schema = object_schema(rule.shape, rule.doc)
    elif get_origin(kind) is tuple:
        schema = _list_schema(rule, get_args(kind)[0])
    elif is_dataclass(kind):
        schema = object_schema(kind, rule.doc)  # type: ignore[arg-type]
    elif get_origin(kind) is Mapping:
        schema = _map_schema(rule, get_args(kind)[1], is_quantities=cls is Resources)
    else:
        schema = _scalar_schema(rule, kind)
    default = _default(field)
    if cls.__module__ in _FILLED_IN and isinstance(default, int):
        schema["default"] = default
    if rules := [_rule(each) for each in _rules(rule, kind)]:
        schema[_RULES] = [*schema.get(_RULES, ()), *rules]
    schema |= rule.schema or {}
    return {key: value for key, value in schema.items() if value is not None}


def _scalar_schema(rule: FieldRule, kind: Any) -> Schema:
    schema: Schema = {"type": "string" if issubclass(kind, StrEnum) else _JSON_TYPES[kind]}
    choices = [member.value for member in kind] if issubclass(kind, StrEnum) else list(rule.choices)
    if choices:
        schema["enum"] = choices
    if kind is int:
        schema["format"] = f"int{rule.bits}"
    if rule.time:
        schema["format"] = "date-time"
    limits = {
        "minimum": rule.minimum,
        "maximum": rule.maximum,
        "minLength": rule.min_length,
        "maxLength": rule.max_length,
    }
    return {**schema, **{key: value for key, value in limits.items() if value is not None}, "description": rule.doc}


def _map_schema(rule: FieldRule, entry: Any, is_quantities: bool) -> Schema:
    if is_quantities:
        entries = _QUANTITY
    elif entry is str:
        entries = {"type": "string", "maxLength": rule.max_length}
    else:
        limit = {} if rule.max_entries is None else {"maxProperties": rule.max_entries}
        return {"type": "object", **limit, "description": rule.doc, _PRESERVE: True}
    return {
        "type": "object",
        "maxProperties": rule.max_entries,
        "description": rule.doc,
        "additionalProperties": entries,
    }


def _list_schema(rule: FieldRule, entry: Any) -> Schema:
    shape: Any = rule.shape or (entry if is_dataclass(entry) else None)
    items = _items_schema(entry) if shape is None else object_schema(shape, _summary(shape))
    return {"type": "array", "maxItems": rule.max_entries, "description": rule.doc, "items": items}


def _items_schema(entry: Any) -> Schema:
    if isinstance(entry, type) and issubclass(entry, StrEnum):
        return {"type": "string", "enum": [member.value for member in entry]}
    return {"type": "object", _PRESERVE: True}


def _environment_schema(rule: FieldRule) -> Schema:
    kinds = {kind: object_schema(cls, _summary(cls)) for kind, cls in ENVIRONMENT_KINDS.items()}
    for schema in kinds.values():
        if not schema["properties"]:
            del schema["properties"]
    return {
        "type": "object",
        "description": rule.doc,
        "default": {"fake": {}},
        _RULES: [_rule(_ONE_ENVIRONMENT)],
        "properties": kinds,
    }


def _rules(rule: FieldRule, kind: Any) -> tuple[CelRule, ...]:
    """The rules of one field: those of its patterns, and those in CEL."""
    found: list[CelRule] = []
    if rule.key_pattern is not None:
        found.append(CelRule(f"self.all(k, {rule.key_pattern.cel('k')})", rule.key_pattern.message))
    if rule.pattern is not None and get_origin(kind) is Mapping:
        found.append(CelRule(f"self.all(k, {rule.pattern.cel('self[k]')})", rule.pattern.message))
    elif rule.pattern is not None:
        found.append(CelRule(rule.pattern.cel(), rule.pattern.message))
    return (*found, *rule.cel)


def _immutability_rules() -> list[Schema]:
    rules = []
    for field in fields(TrainingRunSpec):
        name = camel_case(field.name)
        if rule_of(field).immutable and not rule_of(field).while_idle:
            rule = _is_unchanged(field, "self")
            message = f"{name} cannot be changed once the run is created; create another run"
            rules.append(_forbidden(f".{name}", rule, message))
    return rules


def _rules_by_phase() -> list[Schema]:
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
    default = _default(field)
    return default is MISSING or is_dataclass(default) or isinstance(default, int)


def _forbidden(path: str, rule: str, message: str) -> Schema:
    return {"rule": rule, "message": message, "reason": "FieldValueForbidden", "fieldPath": path}


def _hyperparameter_rules() -> list[Schema]:
    rules = []
    for algorithm in Algorithm:
        names = sorted(parameter.name for parameter in parameters_of(algorithm))
        listed = ", ".join(f"'{name}'" for name in names)
        known = f"!has(self.hyperparameters) || self.hyperparameters.all(k, k in [{listed}])"
        rules.append(
            {
                "rule": f"self.algorithm != '{algorithm}' || {known}",
                "message": f"{algorithm} has the hyperparameters {', '.join(names)}, and no others",
                "fieldPath": ".hyperparameters",
            }
        )
    return rules


def _rule(rule: CelRule) -> Schema:
    return {"rule": rule.rule, "message": rule.message}


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, UnionType) or hint == Environment:
        return hint
    (kind,) = (option for option in get_args(hint) if option is not NoneType)
    return kind
