"""The CustomResourceDefinition of TrainingRun: names, columns and texts around the schema of its fields.

Needs Kubernetes 1.31 or later (selectableFields, quantities in CEL). Must not know how the resource is written down.
"""

from __future__ import annotations

from aisandbox_crds.generate.change_rules import immutability_rules, rules_by_phase
from aisandbox_crds.generate.cross_field_rules import NAME, OF_THE_SPEC, hyperparameters_of
from aisandbox_crds.generate.field_schemas import RULES, Schema, object_schema, validation
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.trainingrun import GROUP, KIND, VERSION

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
_UNSEEN = {"observedGeneration": 0}
"""The status of a run that the operator has not seen: tools that wait by kstatus' rules take one without for done."""


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
    spec[RULES] = [
        *immutability_rules(),
        *({**validation(hyperparameters_of(each)), "fieldPath": ".hyperparameters"} for each in Algorithm),
        *map(validation, OF_THE_SPEC),
    ]
    return {
        "type": "object",
        "description": _RUN,
        "required": ["spec"],
        RULES: [validation(NAME), *rules_by_phase()],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{KIND}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {**object_schema(TrainingRunStatus, _STATUS), "default": dict(_UNSEEN)},
        },
    }
