"""Every rule of crds/trainingrun.yaml against an API server: what is refused, and with which words.

Needs the resource's definition only, no installed system: ``kubectl apply -k crds``.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aisandbox_crds.codec import spec_from_json, spec_to_json, status_from_json, status_to_json
from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.hyperparameter_table import parameters_of
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_crds.status_values import Artifact, EarlyStop, Failure, LessonProgress
from aisandbox_crds.trainingrun import API_VERSION, GROUP, KIND, VERSION
from aisandbox_crds.validation import validate_spec
from cluster import PLURAL, Cluster, manifest_of
from kubectl import Kubectl
from kubernetes import client

SPEC: dict[str, Any] = {"algorithm": "PPO", "totalTimesteps": 1000}
NOW = "2025-01-01T00:00:00Z"
UNTIL: dict[str, Any] = {"name": "a", "until": {"episodes": 5}}
CHANGED = "cannot be changed once the run is created; create another run"
LABEL_KEYS = "must have keys that are Kubernetes label keys"
LABEL_VALUES = "must have values that are Kubernetes label values"


class Resource:
    """TrainingRuns in a namespace that no operator watches; what is refused is raised as ApiException."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._custom = cluster.custom
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self.kubectl = Kubectl(cluster.kubectl.context, namespace)

    def create(self, spec: Any, name: str = "", *, dry: bool = False) -> dict[str, Any]:
        name = name or f"run-{secrets.token_hex(4)}"
        how: dict[str, Any] = {"field_validation": "Strict", **({"dry_run": "All"} if dry else {})}
        created: dict[str, Any] = self._custom.create_namespaced_custom_object(
            *self._place, {**manifest_of(name), "spec": spec}, **how
        )
        return created

    def refusal(self, spec: Any, name: str = "") -> str:
        with pytest.raises(client.ApiException) as caught:
            self.create(spec, name, dry=True)
        return message(caught.value)

    def accepts(self, **changes: Any) -> bool:
        try:
            self.create({**SPEC, **changes}, dry=True)
        except client.ApiException as error:
            if error.status == 422:
                return False
            raise
        return True

    def patch(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        patched: dict[str, Any] = self._custom.patch_namespaced_custom_object(
            *self._place, name, {"spec": spec}, _content_type="application/merge-patch+json"
        )
        return patched

    def apply_status(self, name: str, status: dict[str, Any], writer: str, **metadata: Any) -> dict[str, Any]:
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name, **metadata}, "status": status}
        applied: dict[str, Any] = self._custom.patch_namespaced_custom_object_status(
            *self._place, name, body, field_manager=writer, force=True, _content_type="application/apply-patch+yaml"
        )
        return applied

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._custom.get_namespaced_custom_object(*self._place, name)
        return found


def message(error: client.ApiException) -> str:
    return str(json.loads(error.body or "")["message"])


@pytest.fixture(scope="module")
def runs(cluster: Cluster) -> Iterator[Resource]:
    namespace = f"resource-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", namespace)
    try:
        yield Resource(cluster, namespace)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def _bounds(schema: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Every bound below a schema: its path, its keyword, its number, and the schema that has it."""
    for keyword in BOUNDS:
        if keyword in schema:
            yield ".".join(path), keyword, schema[keyword], schema
    for name, inner in schema.get("properties", {}).items():
        yield from _bounds(inner, (*path, name))
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from _bounds(schema[keyword], (*path, keyword))


BOUNDS: dict[str, str] = {
    "minimum": "should be greater than or equal to {}",
    "maximum": "should be less than or equal to {}",
    "minLength": "should be at least {} chars long",
    "maxLength": "may not be more than {} bytes",
    "maxItems": "must have at most {} item",
    "maxProperties": "must have at most {} item",
}
DEFINITION = yaml.safe_load((Path(__file__).parents[2] / "crds" / "trainingrun.yaml").read_text(encoding="utf-8"))
SPEC_SCHEMA = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
ALL_BOUNDS = [(path, keyword, number) for path, keyword, number, _ in _bounds(SPEC_SCHEMA, ())]
NEIGHBOURS = {"environment.gymnasium": {"id": "CartPole-v1"}, "environment.grpc": {"address": "sim:1"}}
"""What has to be said beside a field, or another rule refuses first."""


def _beyond(schema: dict[str, Any], path: list[str], keyword: str, number: int, done: str = "") -> Any:
    """A value of the schema that breaks the bound at ``path`` and, as far as that is possible, nothing else."""
    if not path:
        return _value_beyond(schema, keyword, number)
    name, *rest = path
    if name == "items":
        return [_beyond(schema["items"], rest, keyword, number)]
    if name == "additionalProperties":
        return {"key": _beyond(schema["additionalProperties"], rest, keyword, number)}
    where = f"{done}.{name}".strip(".")
    return {**NEIGHBOURS.get(done, {}), name: _beyond(schema["properties"][name], rest, keyword, number, where)}


def _value_beyond(schema: dict[str, Any], keyword: str, number: int) -> Any:
    if keyword == "maxItems":
        known = schema["items"].get("properties", {})
        if choices := schema["items"].get("enum"):
            return choices[:1] * (number + 1)
        entry = {"operator": "Exists"} if "operator" in known else {"name": "trainer"} if "name" in known else {}
        return [entry] * (number + 1)
    if keyword == "maxProperties":
        return {f"key{count}": "1" for count in range(number + 1)}
    if keyword == "maxLength":
        return "1" * (number + 1)
    return {"minimum": number - 1, "maximum": number + 1, "minLength": ""}[keyword]


@pytest.mark.parametrize(("path", "keyword", "number"), ALL_BOUNDS, ids=lambda value: str(value))
def test_bound_of_the_schema_is_reported_with_its_field(runs: Resource, path: str, keyword: str, number: int) -> None:
    """Made from the definition itself, so that no bound is without one."""
    refusal = runs.refusal({**SPEC, **_beyond(SPEC_SCHEMA, path.split("."), keyword, number)})
    field = path.split(".items")[0].split(".additionalProperties")[0]
    assert f"spec.{field}" in refusal
    assert BOUNDS[keyword].format(number) in refusal.replace(",", "")


@pytest.fixture
def run(runs: Resource) -> str:
    """The name of a run with everything that may be changed, or may not, said."""
    created = runs.create(
        {
            **SPEC,
            "environment": {"gymnasium": {"id": "CartPole-v1", "kwargs": {"deep": {"list": [1, None]}}}},
            "hyperparameters": {"gamma": "0.9"},
            "evaluation": {},
            "lessons": [{"name": "only", "parameters": {"distance": {"uniform": [1, 2]}}}],
            "tolerations": [{"operator": "Exists"}],
            "labels": {"team": "a"},
        }
    )
    return str(created["metadata"]["name"])


def test_defaults_are_filled_in(runs: Resource) -> None:
    spec = runs.create({**SPEC, "evaluation": {}}, dry=True)["spec"]
    assert spec == {
        **SPEC,
        "environment": {"fake": {}},
        "checkpointEveryTimesteps": 0,
        "evaluation": {"everyTimesteps": 0, "episodes": 10, "stochastic": False},
        "suspend": False,
        "cancel": False,
        "backoffLimit": 3,
    }
    assert spec_from_json(spec) == spec_from_json({**SPEC, "evaluation": {}})


def test_defaults_of_simulators_are_filled_in(runs: Resource) -> None:
    runs.create({**SPEC, "environment": {"grpc": {"address": "sim:1, dns:///sims:2 "}}}, dry=True)
    spec = runs.create({**SPEC, "environment": {"grpc": {"address": "sim:1"}}}, dry=True)["spec"]
    assert spec["environment"] == {"grpc": {"address": "sim:1", "environments": 0}}


@pytest.mark.smoke
@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_spec_with_everything_comes_back_as_it_was(runs: Resource, algorithm: Algorithm) -> None:
    spec = {
        "algorithm": algorithm.value,
        "totalTimesteps": 10**12,
        "environment": {"gymnasium": {"id": "ALE/Pong-v5", "kwargs": {"a": None, "b": [1, {"c": 1.5}], "d": {}}}},
        "seed": 2**32 - 1,
        "hyperparameters": {p.name: "1" for p in parameters_of(algorithm)},
        "modelOutputPath": "./team/my_model.zip",
        "checkpointEveryTimesteps": 5000,
        "evaluation": {"everyTimesteps": 10, "episodes": 20, "stochastic": True},
        "lessons": [
            {
                "name": "near",
                "parameters": {"distance": {"uniform": [1, 2.5]}, "floor": {"choice": ["ice"]}, "wind": True},
                "until": {"reward": 0.5, "overEpisodes": 20, "episodes": 500, "timesteps": 10**6},
            },
            {"name": "far"},
        ],
        "demonstrations": {
            "file": "team/a.parquet",
            "epochs": 5,
            "batchSize": 32,
            "learningRate": 0.5,
            "digest": "sha256:" + "0" * 64,
        },
        "startFrom": {"run": "a", "checkpoint": "step:5", "take": ["optimizer"], "digest": "sha256:" + "0" * 64},
        "stopWhen": {
            "episodeRewardMean": -1.5,
            "evaluationRewardMean": 475.0,
            "timesInARow": 3,
            "evaluationsWithoutImprovement": 5,
            "trainingSeconds": 9,
        },
        "suspend": True,
        "cancel": True,
        "backoffLimit": 0,
        "activeDeadlineSeconds": 60,
        "ttlSecondsAfterFinished": 0,
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 2, "nvidia.com/gpu": "1"}},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gpu", "value": "a", "effect": "NoExecute", "tolerationSeconds": 5}],
        "priorityClassName": "low",
        "labels": {"kueue.x-k8s.io/queue-name": "trainers", "empty": ""},
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"a.example.com/b": "any text, {}"}},
            "spec": {
                "serviceAccountName": "reader",
                "imagePullSecrets": [{"name": "registry"}],
                "runtimeClassName": "gvisor",
                "schedulerName": "volcano",
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}],
                "securityContext": {"runAsUser": 1000, "supplementalGroups": [7]},
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "a", "readOnly": True}}],
                "containers": [
                    {
                        "name": "trainer",
                        "image": "a.example.com/b@sha256:0",
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
            },
        },
    }
    assert runs.create(spec, dry=True)["spec"] == spec
    assert spec_to_json(spec_from_json(spec)) == spec


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"algorithm": None}, "spec.algorithm", "Required value"),
        ({"algorithm": "DDPG"}, "spec.algorithm", 'supported values: "PPO", "A2C", "DQN"'),
        ({"totalTimesteps": None}, "spec.totalTimesteps", "Required value"),
        ({"totalTimesteps": 0}, "spec.totalTimesteps", "should be greater than or equal to 1"),
        ({"totalTimesteps": 10**12 + 1}, "spec.totalTimesteps", "should be less than or equal to"),
        ({"totalTimesteps": "1000"}, "spec.totalTimesteps", 'must be of type integer: "string"'),
        ({"totalTimesteps": 1.5}, "spec.totalTimesteps", 'must be of type integer: "number"'),
        ({"seed": -1}, "spec.seed", "should be greater than or equal to 0"),
        ({"seed": 2**32}, "spec.seed", "should be less than or equal to 4294967295"),
        ({"environment": {}}, "spec.environment", "must have exactly one of gymnasium, grpc, pool and fake"),
        (
            {"environment": {"fake": {}, "gymnasium": {"id": "A"}}},
            "spec.environment",
            "must have exactly one of gymnasium, grpc, pool and fake",
        ),
        ({"environment": {"gymnasium": {}}}, "spec.environment.gymnasium.id", "Required value"),
        ({"environment": {"gymnasium": {"id": "a b"}}}, "spec.environment.gymnasium.id", "as 'CartPole-v1'"),
        ({"environment": {"gymnasium": {"id": "A", "kwargs": [1]}}}, "kwargs", "must be of type object"),
        ({"environment": {"grpc": {}}}, "spec.environment.grpc.address", "Required value"),
        ({"environment": {"pool": {}}}, "spec.environment.pool.name", "Required value"),
        ({"environment": {"pool": {"name": "Arena"}}}, "spec.environment.pool.name", "lower-case letters"),
        (
            {"environment": {"pool": {"name": "a", "environments": 2, "minimum": 3}}},
            "spec.environment.pool",
            "minimum must not be more than environments",
        ),
        ({"environment": {"grpc": {"address": "sim"}}}, "spec.environment.grpc.address", "must be host:port"),
        ({"environment": {"grpc": {"address": "http://a:1"}}}, "spec.environment.grpc.address", "must be host:port"),
        ({"environment": {"grpc": {"address": "a:1 b:1"}}}, "spec.environment.grpc.address", "separated by commas"),
        ({"environment": {"grpc": {"address": "a:65536"}}}, "spec.environment.grpc.address", "ports from 1 to 65535"),
        ({"environment": {"grpc": {"address": "a:0,b:1"}}}, "spec.environment.grpc.address", "ports from 1 to 65535"),
        (
            {"environment": {"grpc": {"address": "a:1", "environments": 4097}}},
            "spec.environment.grpc.environments",
            "should be less than or equal to 4096",
        ),
        ({"hyperparameters": {"gamma": 0.9}}, "spec.hyperparameters.gamma", 'must be of type string: "number"'),
        ({"hyperparameters": {"learnin_rate": "1"}}, "spec.hyperparameters", "PPO has the hyperparameters batch_size,"),
        ({"hyperparameters": {"gamma": "0" * 2001}}, "spec.hyperparameters.gamma", "may not be more than 2000 bytes"),
        ({"hyperparameters": {str(key): "1" for key in range(101)}}, "spec.hyperparameters", "at most 100 items"),
        ({"modelOutputPath": "/etc/x.zip"}, "spec.modelOutputPath", "must be relative to the volume of models"),
        ({"modelOutputPath": "a/../../x.zip"}, "spec.modelOutputPath", "must not contain '..'"),
        ({"modelOutputPath": "a\\x.zip"}, "spec.modelOutputPath", "no backslash or colon"),
        ({"modelOutputPath": "C:x.zip"}, "spec.modelOutputPath", "no backslash or colon"),
        ({"modelOutputPath": "team/"}, "spec.modelOutputPath", "must end in a file name"),
        ({"modelOutputPath": "./runs/x.zip"}, "spec.modelOutputPath", "must not be in the folder 'runs'"),
        ({"modelOutputPath": "a\nb"}, "spec.modelOutputPath", "must have no control characters"),
        ({"modelOutputPath": "aux.zip"}, "spec.modelOutputPath", "is a device on Windows"),
        ({"checkpointEveryTimesteps": -1}, "spec.checkpointEveryTimesteps", "should be greater than or equal to 0"),
        ({"evaluation": {"episodes": 0}}, "spec.evaluation.episodes", "should be greater than or equal to 1"),
        ({"evaluation": {"everyTimesteps": -1}}, "spec.evaluation.everyTimesteps", "greater than or equal to 0"),
        ({"suspend": "yes"}, "spec.suspend", 'must be of type boolean: "string"'),
        ({"backoffLimit": 1001}, "spec.backoffLimit", "should be less than or equal to 1000"),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds", "should be greater than or equal to 1"),
        ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished", "should be greater than or equal to 0"),
        ({"resources": {"limits": {"memory": "4GB"}}}, "spec.resources.limits", "must be a quantity of at least 0"),
        ({"resources": {"limits": {"cpu": "-1"}}}, "spec.resources.limits", "must be a quantity of at least 0"),
        ({"resources": {"limits": {"cpu": 1.5}}}, "spec.resources.limits.cpu", "must be of type"),
        (
            {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1900m"}}},
            "spec.resources",
            "requests must not be greater than limits",
        ),
        ({"nodeSelector": {"a b": "c"}}, "spec.nodeSelector", LABEL_KEYS),
        ({"nodeSelector": {"a": "b c"}}, "spec.nodeSelector", LABEL_VALUES),
        ({"labels": {"a/b/c": "d"}}, "spec.labels", LABEL_KEYS),
        ({"labels": {"a": "-b"}}, "spec.labels", LABEL_VALUES),
        ({"labels": {"aisandbox.dev/run": "x"}}, "spec.labels", "which are the operator's"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "spec.labels", "which are the operator's"),
        ({"labels": {"job-name": "x"}}, "spec.labels", "must have no key that the Job sets"),
        ({"labels": {f"k{index}": "v" for index in range(65)}}, "spec.labels", "must have at most 64 items"),
        (
            {"podTemplate": {"metadata": {"labels": {"aisandbox.dev/run": "x"}}}},
            "spec.podTemplate.metadata.labels",
            "which are the operator's",
        ),
        (
            {"podTemplate": {"metadata": {"annotations": {"a b": "c"}}}},
            "spec.podTemplate.metadata.annotations",
            "Kubernetes annotation keys",
        ),
        (
            {"podTemplate": {"spec": {"containers": [{"name": "init"}]}}},
            "spec.podTemplate.spec.containers[0].name",
            'supported values: "trainer"',
        ),
        (
            {"podTemplate": {"spec": {"serviceAccountName": "A"}}},
            "spec.podTemplate.spec.serviceAccountName",
            "must be the name of a ServiceAccount",
        ),
        ({"stopWhen": {}}, "spec.stopWhen", "must have at least one of episodeRewardMean"),
        ({"stopWhen": {"trainingSeconds": 5, "timesInARow": 2}}, "spec.stopWhen", "timesInARow counts how often"),
        ({"stopWhen": {"evaluationRewardMean": 5}}, "spec", "are never reached without evaluations"),
        (
            {"evaluation": {"everyTimesteps": 300}, "stopWhen": {"evaluationRewardMean": 5, "timesInARow": 4}},
            "spec",
            "fewer evaluations before the end than timesInARow",
        ),
        (
            {"evaluation": {}, "stopWhen": {"evaluationsWithoutImprovement": 9}},
            "spec",
            "stopWhen.evaluationsWithoutImprovement is never reached",
        ),
        ({"activeDeadlineSeconds": 5, "stopWhen": {"trainingSeconds": 5}}, "spec", "fails after its activeDeadline"),
        ({"startFrom": {}}, "spec.startFrom", "must have exactly one of run and zip"),
        ({"startFrom": {"run": "a", "zip": "b.zip"}}, "spec.startFrom", "must have exactly one of run and zip"),
        ({"startFrom": {"run": "a", "model": "best", "checkpoint": "latest"}}, "spec.startFrom", "one of model and"),
        ({"startFrom": {"zip": "b.zip", "model": "best"}}, "spec.startFrom", "zip must be set without model"),
        ({"startFrom": {"run": "a", "take": ["optimizer"]}}, "spec.startFrom", "are parts of a checkpoint only"),
        ({"startFrom": {"run": "a", "take": ["all"]}}, "spec.startFrom.take[0]", 'supported values: "normalization"'),
        ({"demonstrations": {"file": "../a.parquet"}}, "spec.demonstrations.file", "must not contain '..'"),
        (
            {"algorithm": "CrossQ", "demonstrations": {"file": "a.parquet", "batchSize": 1}},
            "spec",
            "demonstrations.batchSize must be at least 2 with this algorithm",
        ),
        (
            {"demonstrations": {"file": "a.parquet", "learningRate": 0}},
            "spec.demonstrations.learningRate",
            "must be more than 0 and at most 1",
        ),
        ({"startFrom": {"zip": "../b.zip"}}, "spec.startFrom.zip", "must not contain '..'"),
        (
            {"startFrom": {"run": "a", "checkpoint": "latest", "take": ["replayBuffer"]}},
            "spec",
            "startFrom.take has replayBuffer, which the algorithm does not have",
        ),
        ({"tolerations": [{"value": "a"}]}, "spec.tolerations[0]", "must have a key, or the operator Exists"),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            "spec.tolerations[0]",
            "must have no value with the operator Exists",
        ),
        (
            {"tolerations": [{"key": "a", "tolerationSeconds": 5}]},
            "spec.tolerations[0]",
            "must have the effect NoExecute to have tolerationSeconds",
        ),
        ({"tolerations": [{"key": "a", "operator": "In"}]}, "spec.tolerations[0].operator", '"Exists", "Equal"'),
        ({"tolerations": [{"key": "a", "effect": "No"}]}, "spec.tolerations[0].effect", '"NoSchedule"'),
        ({"tolerations": [{"key": "a b"}]}, "spec.tolerations[0].key", "must be the key of a taint"),
        ({"tolerations": [{"key": "a", "value": "b c"}]}, "spec.tolerations[0].value", "must be the value of a taint"),
        ({"lessons": [UNTIL, {"name": "a"}]}, "spec.lessons", "must have lessons of different names"),
        ({"lessons": [{"name": "a"}, {"name": "b"}]}, "spec.lessons", "must have an until in every lesson"),
        ({"lessons": [{"name": "a", "until": {}}, {"name": "b"}]}, "spec.lessons[0].until", "at least one of reward"),
        ({"priorityClassName": "Not_A_Name"}, "spec.priorityClassName", "must be the name of a PriorityClass"),
    ],
)  # fmt: skip
def test_a_bad_spec_is_refused_with_words(runs: Resource, change: dict[str, Any], field: str, words: str) -> None:
    said = runs.refusal({key: value for key, value in {**SPEC, **change}.items() if value is not None})
    assert field in said
    assert words in said


def test_every_mistake_is_reported_at_once(runs: Resource) -> None:
    said = runs.refusal({**SPEC, "environment": {}, "modelOutputPath": "/x", "labels": {"job-name": "x"}})
    for field in ("spec.environment", "spec.modelOutputPath", "spec.labels"):
        assert field in said


@pytest.mark.parametrize("name", ["x" * 53, "a.b"])
def test_a_name_that_no_job_and_label_can_have_is_refused(runs: Resource, name: str) -> None:
    assert "metadata.name must be a DNS label of at most 52 characters" in runs.refusal(SPEC, name)


def test_a_name_of_52_characters_is_taken(runs: Resource) -> None:
    assert runs.create(SPEC, "x" * 52, dry=True)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({**SPEC, "totalTimestep": 5}, "spec.totalTimestep"),
        ({**SPEC, "environment": {"fake": {"size": 5}}}, "spec.environment.fake.size"),
        ({**SPEC, "environment": {"grpc": {"address": "a:1", "port": 5}}}, "spec.environment.grpc.port"),
        ({**SPEC, "resources": {"claims": []}}, "spec.resources.claims"),
        ({**SPEC, "tolerations": [{"operator": "Exists", "for": 1}]}, "spec.tolerations[0].for"),
    ],
)
def test_kubectl_refuses_unknown_fields(runs: Resource, spec: dict[str, Any], field: str) -> None:
    said = runs.kubectl.refused("apply", "-f", "-", manifest={**manifest_of("run"), "spec": spec})
    assert f'unknown field "{field}"' in said


PATHS = [
    "", "x", "./my_model.zip", "a/b/c.zip", "runs.zip", "team/runs/x", "modèle.zip", ".hidden", "...", "a..b/c", " a",
    "/x", "//x", "../x", "a/..", "..", ".", "./", "a/", "a/.", "C:/x", "a\\b", "runs", "RUNS/x", ".//runs/x",
    "././runs", "x:y", "a\tb", "a\x7f", "nul", "a/CON.zip", "com1.zip", "console", "a/com10", "runs./x", "x ",
    "a /x", "a/ ", "a../b", "a\xa0b", "\u200b", "a\u2028",
]  # fmt: skip
ADDRESSES = [
    "localhost:50061", "127.0.0.1:1", "sim-0.sims.default.svc.cluster.local.:65535", "sim_0:5", "[::1]:50061",
    "[fe80::1%eth0]:50061", "a:1,b:2,[::1]:3", "dns:///sims:50061,a:1",
    ",".join(["simulator-0.simulators:50061"] * 250),
    "localhost", "localhost:", ":50061", "a:0", "a:65536", "a:99999", "a:00000", "a:-1", "a:1e3", "a:1,", ",a:1",
    "a:1, b:2", "a b:1", "::1:50061", "[::1]", "[::g]:1", "[]:1", "http://a:1", "dns://8.8.8.8/a:1", "dns:///a",
    "ipv4:1.2.3.4:50", "unix:50061", "XDS:443", "a:1,vsock:1", "unix:/run/s", "a/b:1", "-a:1", "a:1\n", "é:1",
]  # fmt: skip
IDS = ["CartPole-v1", "ALE/Pong-v5", "ale_py:ALE/Pong-v5", "my.package:My-Env-v0", "a b", "../x", "/A", "a/b/c", "a\n"]
LABELS = [
    {"kueue.x-k8s.io/queue-name": "a"}, {"A_b.c": "x" * 63}, {"a": ""}, {"x" * 63: ""}, {"": "a"}, {"-a": "b"},
    {"a": "x" * 64}, {"A/b": "c"}, {"a/": "b"}, {"/a": "b"}, {"x" * 64: "a"}, {"a": "é"}, {"a": "b\n"},
    {"batch.kubernetes.io/x": "a"}, {"controller-uid": "a"}, {"x.aisandbox.dev/a": "b"},
]  # fmt: skip
QUANTITIES = [
    2, 0, "1.5", ".5", "5.", "500m", "100k", "4Gi", "1e3", "2E", "", "-1", "1 Gi", "1gi", "1K", "0x1", "1e",
    "k", "-0", "+1",
]  # fmt: skip
TOLERATIONS = [
    {"operator": "Exists"}, {"key": "a"}, {"key": "a", "value": ""}, {"key": "", "operator": "Exists"},
    {"key": "a", "effect": "NoExecute", "tolerationSeconds": -1}, {"key": "a", "effect": ""},
    {}, {"key": ""}, {"key": "-"}, {"key": "a", "operator": ""}, {"operator": "Exists", "value": "a"},
    {"key": "a", "tolerationSeconds": 0},
]  # fmt: skip
LESSONS: list[list[dict[str, Any]]] = [
    [], [{"name": "a"}], [{"name": "a b.c-d_e"}], [UNTIL, {"name": "b"}],
    [UNTIL, {**UNTIL, "name": "b"}, {"name": "c"}],
    [UNTIL], [{"name": "a"}, {"name": "b"}], [UNTIL, {"name": "b"}, {"name": "c"}], [UNTIL, {"name": "a"}],
    [{"name": "a "}], [{"name": "é"}], [{"name": "a", "until": {}}, {"name": "b"}],
    [{"name": "a", "until": {"overEpisodes": 2, "episodes": 3}}, {"name": "b"}],
]  # fmt: skip
CLASSES = ["", "high", "system-node-critical", "a.b-c", "High", "a_b", "-a", "a..b", "a\n"]


@pytest.mark.parametrize(
    "changes",
    [
        *({"modelOutputPath": path} for path in PATHS),
        *({"environment": {"grpc": {"address": address}}} for address in ADDRESSES),
        *({"environment": {"gymnasium": {"id": name}}} for name in IDS),
        *({"labels": labels} for labels in LABELS),
        *({"nodeSelector": labels} for labels in LABELS),
        *({"resources": {"limits": {"cpu": text}}} for text in QUANTITIES),
        *({"priorityClassName": name} for name in CLASSES),
        *({"lessons": lessons} for lessons in LESSONS),
        *({"tolerations": [toleration]} for toleration in TOLERATIONS),
        *(
            {"algorithm": algorithm, "demonstrations": {"file": "a", "batchSize": size}, "hyperparameters": {}}
            for algorithm in ("CrossQ", "SAC")
            for size in (1, 2)
        ),
        *(
            {"startFrom": {"zip": path}, "demonstrations": {"file": "team/a"}}
            for path in ("team/b", "team/ab", "team/a", "team", "team/a/b")
        ),
    ],
)
def test_the_api_server_and_the_validation_agree(runs: Resource, changes: dict[str, Any]) -> None:
    try:
        validate_spec(spec_from_json({**SPEC, **changes}))
        valid = True
    except InvalidRun:
        valid = False
    assert runs.accepts(**changes) == valid


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_hyperparameter_of_another_algorithm_only_is_refused(runs: Resource, algorithm: Algorithm) -> None:
    known = {parameter.name for parameter in parameters_of(algorithm)}
    for key in {parameter.name for other in Algorithm for parameter in parameters_of(other)} - known:
        said = runs.refusal({**SPEC, "algorithm": algorithm.value, "hyperparameters": {key: "1"}})
        assert f"{algorithm} has the hyperparameters" in said


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "A2C"},
        {"totalTimesteps": 2000},
        {"environment": {"gymnasium": None, "fake": {}}},
        {"environment": {"gymnasium": {"id": "Acrobot-v1"}}},
        {"environment": {"gymnasium": {"kwargs": {"deep": {"list": [1, 2]}}}}},
        {"environment": {"gymnasium": {"kwargs": None}}},
        {"seed": 5},
        {"hyperparameters": {"gamma": "0.8"}},
        {"hyperparameters": {"n_envs": "2"}},
        {"hyperparameters": None},
        {"modelOutputPath": "a.zip"},
        {"checkpointEveryTimesteps": 5},
        {"evaluation": {"episodes": 5}},
        {"evaluation": None},
        {"lessons": [{"name": "only", "parameters": {"distance": {"uniform": [1, 3]}}}]},
        {"backoffLimit": 5},
        {"activeDeadlineSeconds": 5},
    ],
)
def test_what_the_run_is_cannot_be_changed(runs: Resource, run: str, change: dict[str, Any]) -> None:
    with pytest.raises(client.ApiException) as caught:
        runs.patch(run, change)
    (field,) = change
    assert f"spec.{field}: Forbidden: {field} {CHANGED}" in message(caught.value)


def test_a_run_is_suspended_resumed_and_cancelled_once(runs: Resource, run: str) -> None:
    assert runs.patch(run, {"suspend": True})["metadata"]["generation"] == 2
    assert runs.patch(run, {"suspend": False, "ttlSecondsAfterFinished": 5})["metadata"]["generation"] == 3
    assert runs.patch(run, {"ttlSecondsAfterFinished": None})["spec"].get("ttlSecondsAfterFinished") is None
    assert runs.patch(run, {"cancel": True})["spec"]["cancel"] is True
    for change in ({"cancel": False}, {"cancel": None}):
        with pytest.raises(client.ApiException, match="cancel cannot be taken back before the run is done"):
            runs.patch(run, change)
    runs.apply_status(run, status_to_json(TrainingRunStatus(phase=Phase.CANCELLED)), "aisandbox-operator")
    assert runs.patch(run, {"cancel": False})["spec"]["cancel"] is False  # as a repository that says so is applied


@pytest.mark.parametrize(
    "change",
    [
        {"resources": {"limits": {"cpu": 2}}},
        {"nodeSelector": {"disk": "ssd"}},
        {"tolerations": []},
        {"tolerations": None},
        {"priorityClassName": "low"},
        {"labels": {"team": "b"}},
        {"podTemplate": {"metadata": {"annotations": {"team": "b"}}}},
    ],
)
def test_what_shapes_the_pod_can_be_changed_while_no_trainer_is_at_work(
    runs: Resource, run: str, change: dict[str, Any]
) -> None:
    (field,) = change
    before = runs.get(run)["spec"].get(field)
    for phase in (Phase.RUNNING, Phase.SUCCEEDED):
        runs.apply_status(run, status_to_json(TrainingRunStatus(phase=phase)), "aisandbox-operator")
        with pytest.raises(client.ApiException) as caught:
            runs.patch(run, change)
        assert f"spec.{field}: Forbidden: {field} can be changed only while" in message(caught.value)
    for phase in (Phase.PENDING, Phase.STARTING, Phase.SUSPENDED):
        runs.apply_status(run, status_to_json(TrainingRunStatus(phase=phase)), "aisandbox-operator")
        assert runs.patch(run, change)["spec"].get(field) != before
        runs.patch(run, {field: before})


def test_applying_the_same_manifest_again_changes_nothing(runs: Resource) -> None:
    manifest = manifest_of("again", **SPEC, resources={"limits": {"cpu": 2}}, tolerations=[{"operator": "Exists"}])
    assert "created" in runs.kubectl.apply(manifest)
    assert "unchanged" in runs.kubectl.apply(manifest)
    done = runs.kubectl("apply", "--server-side", "--field-manager=gitops", "-f", "-", manifest=manifest)
    assert "serverside-applied" in done
    assert runs.get("again")["metadata"]["generation"] == 1


@pytest.mark.smoke
def test_status_and_spec_are_written_apart(runs: Resource, run: str) -> None:
    before = runs.get(run)
    runs.kubectl("patch", PLURAL, run, "--type=merge", "-p", json.dumps({"status": {"phase": "Failed"}}))
    assert runs.get(run)["status"] == {"observedGeneration": 0}, "which is what no operator has seen"
    patch = json.dumps({"spec": {"suspend": True}, "status": {"phase": "Running"}})
    runs.kubectl("patch", PLURAL, run, "--subresource=status", "--type=merge", "-p", patch)
    after = runs.get(run)
    assert after["spec"] == before["spec"]
    assert after["status"] == {"observedGeneration": 0, "phase": "Running"}
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def condition(kind: ConditionType, status: ConditionStatus = ConditionStatus.TRUE) -> Condition:
    return Condition(kind, status, "Because", "It is so.", NOW, 1)


def test_a_full_status_comes_back_as_it_was(runs: Resource, run: str) -> None:
    artifact = Artifact("checkpoints/500", 500, "sha256:1", 487.5, NOW)
    lesson = LessonProgress("ice", 2, 3, 10, 500, 1.5)
    progress = Progress(500, 1000, 50.0, 812.5, 3.5, 487.5, 200.0, 490.0, "training", "slow", NOW, 2, 40, lesson)
    status = TrainingRunStatus(
        Phase.FAILED, NOW, NOW, progress, artifact, artifact, artifact, artifact, 2, 1, 1, 1, 50,
        Failure("OutOfMemory", "Use less."), EarlyStop("TimeReached", "9 s."), artifact, 1,
        tuple(map(condition, ConditionType)),
    )  # fmt: skip
    runs.apply_status(run, status_to_json(status), "aisandbox-operator")
    assert status_from_json(runs.get(run)["status"]) == status


def test_two_writers_share_a_status(runs: Resource, run: str) -> None:
    running, stalled = condition(ConditionType.RUNNING), condition(ConditionType.PROGRESS_STALLED)
    first = {"phase": "Running", "conditions": status_to_json(TrainingRunStatus(conditions=(running,)))["conditions"]}
    other = {
        "progress": {"timesteps": 5, "warning": "slow"},
        "conditions": status_to_json(TrainingRunStatus(conditions=(stalled,)))["conditions"],
    }
    runs.apply_status(run, first, "aisandbox-operator")
    runs.apply_status(run, other, "aisandbox-progress")
    status = status_from_json(runs.get(run)["status"])
    assert set(status.conditions) == {running, stalled}
    assert (status.phase, status.progress.timesteps) == (Phase.RUNNING, 5)

    runs.apply_status(run, {"progress": {"timesteps": 6}}, "aisandbox-progress")
    status = status_from_json(runs.get(run)["status"])
    assert status.conditions == (running,)
    assert status.progress == Progress(6)


def test_a_checkpoint_of_one_writer_leaves_nothing_of_the_others(runs: Resource, run: str) -> None:
    old = {"path": "models/1", "timesteps": 1, "digest": "sha256:1", "rewardMean": 5.0}
    new = {"path": "models/2", "timesteps": 2, "digest": "sha256:2"}
    runs.apply_status(run, {"bestModel": old}, "aisandbox-progress")
    runs.apply_status(run, {"bestModel": new}, "aisandbox-operator")
    assert runs.get(run)["status"]["bestModel"] == new


def test_a_writer_that_has_not_seen_the_latest_status_is_refused(runs: Resource, run: str) -> None:
    seen = runs.get(run)["metadata"]["resourceVersion"]
    runs.apply_status(run, {"phase": "Succeeded"}, "aisandbox-operator")
    with pytest.raises(client.ApiException) as caught:
        runs.apply_status(run, {"progress": {"timesteps": 5}}, "aisandbox-progress", resourceVersion=seen)
    assert caught.value.status == 409


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"phase": "Gone"}, "supported values"),
        ({"conditions": [{"type": "Running", "status": "true", "reason": "A"}]}, "supported values"),
        ({"conditions": [{"type": "Running", "status": "True", "reason": "two words"}]}, "should match"),
        ({"conditions": [{"type": "Running", "status": "True"}]}, "Required value"),
        ({"startTime": "yesterday"}, "must be of type date-time"),
        ({"latestModel": {"path": "a"}}, "Required value"),
    ],
)
def test_a_status_without_meaning_is_refused(runs: Resource, run: str, status: dict[str, Any], words: str) -> None:
    with pytest.raises(client.ApiException) as caught:
        runs.apply_status(run, status, "aisandbox-operator")
    assert words in message(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "trains one policy with stable-baselines3"),
        (".spec", "It cannot be changed once the run is created"),
        (".spec.totalTimesteps", "environment steps"),
        (".spec.environment", "exactly one of gymnasium, grpc, pool and fake"),
        (".spec.environment.grpc.address", "dns:///host:port"),
        (".spec.hyperparameters", "docs/hyperparameters.md"),
        (".spec.resources.limits", "nvidia.com/gpu"),
        (".spec.tolerations.tolerationSeconds", "NoExecute"),
        (".status.conditions", "kubectl wait --for=condition=Complete"),
        (".status.progress.fps", "Environment steps per second"),
    ],
)
def test_kubectl_explains_the_fields(runs: Resource, path: str, words: str) -> None:
    assert words in " ".join(runs.kubectl("explain", f"trainingrun{path}").split())


def test_kubectl_lists_the_important_columns(runs: Resource) -> None:
    gymnasium, simulators = {"gymnasium": {"id": "CartPole-v1"}}, {"grpc": {"address": "dns:///sims:50061"}}
    listed = runs.create({**SPEC, "algorithm": "A2C", "environment": gymnasium})["metadata"]["name"]
    simulated = runs.create({**SPEC, "algorithm": "DQN", "environment": simulators})["metadata"]["name"]
    status = TrainingRunStatus(
        Phase.RUNNING,
        progress=Progress(500, 1000, 50.7, episode_reward_mean=12.5),
        latest_checkpoint=Artifact("checkpoints/400", 400, "sha256:1"),
        restarts=2,
    )
    runs.apply_status(listed, status_to_json(status), "aisandbox-operator")

    header, row = runs.kubectl("get", "trun", listed).splitlines()
    assert header.split() == ["NAME", "ALGORITHM", "PHASE", "PROGRESS", "TIMESTEPS", "REWARD", "AGE"]
    assert row.split()[:-1] == [listed, "A2C", "Running", "50", "500", "12.5"]
    header, row, other = runs.kubectl("get", "trun", listed, simulated, "-o", "wide").splitlines()
    assert header.split()[6:] == ["LESSON", "STOPPED", "RESTARTS", "CHECKPOINT", "ENVIRONMENT", "AGE"]
    assert row.split()[6:-1] == ["2", "checkpoints/400", "CartPole-v1"]
    assert other.split()[:-1] == [simulated, "DQN", "dns:///sims:50061"]

    names = runs.kubectl("get", "trun", "--field-selector=status.phase=Running,spec.algorithm=A2C", "-o", "name")
    assert f"trainingrun.{GROUP}/{listed}" in names.split()
    assert f"trainingrun.{GROUP}/{simulated}" not in names.split()
    assert f"trainingrun.{GROUP}/{listed}" in runs.kubectl("get", "aisandbox", "-o", "name")
    # `kubectl delete all --all` must not delete what was trained.
    assert f"trainingrun.{GROUP}/{listed}" not in runs.kubectl("get", "all", "-o", "name")


@pytest.mark.smoke
def test_kubectl_waits_for_a_condition(runs: Resource, run: str) -> None:
    complete = condition(ConditionType.COMPLETE)
    command = runs.kubectl.command("wait", f"trainingrun/{run}", "--for=condition=Complete", "--timeout=60s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        runs.apply_status(run, status_to_json(TrainingRunStatus(conditions=(complete,))), "aisandbox-operator")
        said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "condition met" in said


def test_a_spec_made_in_python_is_taken_as_it_is(runs: Resource) -> None:
    spec = TrainingRunSpec(Algorithm.DQN, 1000, seed=3, hyperparameters={"buffer_size": "1000"}, suspend=True)
    created = runs.create(spec_to_json(spec), dry=True)
    assert spec_from_json(created["spec"]) == spec
