"""``podTemplate``: what is taken, and which field an error names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aisandbox_crds.codec import spec_from_json, spec_to_json
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.naming import request_digest
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.trainer_start import spec_for_trainer
from aisandbox_crds.validation import validate_spec
from hypothesis import given
from hypothesis import strategies as st

SPEC = TrainingRunSpec(Algorithm.PPO, 1000)
WHOLE = {
    "metadata": {"labels": {"team": "a"}, "annotations": {"sidecar.istio.io/inject": "false", "note": "any text, "}},
    "spec": {
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "gvisor",
        "schedulerName": "volcano",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "securityContext": {"runAsUser": 1000650000, "fsGroup": 0, "supplementalGroups": [5000]},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-set", "readOnly": True}}],
        "containers": [
            {
                "name": "trainer",
                "image": "registry.example.com/team/trainer@sha256:0a",
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
            }
        ],
    },
}


def spec_with(template: Any) -> TrainingRunSpec:
    return spec_from_json({"algorithm": "PPO", "totalTimesteps": 1000, "podTemplate": template})


def refused(template: Any) -> list[str]:
    with pytest.raises(InvalidRun) as caught:
        validate_spec(spec_with(template))
    return [error.field for error in caught.value.errors]


def test_whole_template_is_taken_and_written_as_it_was_read() -> None:
    spec = spec_with(WHOLE)
    validate_spec(spec)
    assert spec_to_json(spec)["podTemplate"] == WHOLE


def test_template_is_not_the_trainers() -> None:
    assert spec_to_json(spec_for_trainer(spec_with(WHOLE))) == spec_to_json(spec_for_trainer(SPEC))


def test_digest_of_a_request_without_a_template_is_that_of_before() -> None:
    assert request_digest("e", SPEC) == request_digest("e", replace(SPEC, pod_template=None))
    assert request_digest("e", SPEC) != request_digest("e", spec_with(WHOLE))


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"spec": {"hostNetwork": True}}, "spec.podTemplate.spec.hostNetwork"),
        (
            {"spec": {"containers": [{"name": "trainer", "command": ["sh"]}]}},
            "spec.podTemplate.spec.containers[0].command",
        ),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.podTemplate.spec.containers[0].name"),
        ({"metadata": {"annotations": {"a": 1}}}, "spec.podTemplate.metadata.annotations.a"),
    ],
)
def test_field_that_is_not_known_is_named(template: Any, field: str) -> None:
    with pytest.raises(InvalidRun) as caught:
        spec_with(template)
    assert [error.field for error in caught.value.errors] == [field]


def _spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def _volume(name: object = "data", **source: Any) -> dict[str, Any]:
    return {"name": name, **(source or {"emptyDir": {}})}


def _mounted(*mounts: dict[str, Any]) -> dict[str, Any]:
    return _spec(volumes=[_volume()], containers=[{"name": "trainer", "volumeMounts": list(mounts)}])


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ({"metadata": {"labels": {"aisandbox.dev/run": "x"}}}, ["pod_template.metadata.labels"]),
        ({"metadata": {"labels": {"a": "b c"}}}, ["pod_template.metadata.labels"]),
        ({"metadata": {"annotations": {"a b": "c"}}}, ["pod_template.metadata.annotations"]),
        ({"metadata": {"annotations": {"a": "x" * 16_385}}}, ["pod_template.metadata.annotations.a"]),
        (_spec(serviceAccountName="A"), ["pod_template.spec.service_account_name"]),
        (_spec(runtimeClassName="a_b"), ["pod_template.spec.runtime_class_name"]),
        (_spec(imagePullSecrets=[{"name": "a"}, {"secret": "b"}]), ["pod_template.spec.image_pull_secrets[1]"]),
        (_spec(imagePullSecrets=[{"name": "A"}]), ["pod_template.spec.image_pull_secrets[0].name"]),
        (_spec(securityContext={"runAsUser": 0}), ["pod_template.spec.security_context.runAsUser"]),
        (_spec(securityContext={"runAsUser": "1000"}), ["pod_template.spec.security_context.runAsUser"]),
        (_spec(securityContext={"runAsNonRoot": False}), ["pod_template.spec.security_context.runAsNonRoot"]),
        (_spec(securityContext={"supplementalGroups": 7}), ["pod_template.spec.security_context.supplementalGroups"]),
        (_spec(volumes=[_volume("models")]), ["pod_template.spec.volumes[0].name"]),
        (_spec(volumes=[_volume(7)]), ["pod_template.spec.volumes[0].name"]),
        (
            _spec(volumes=[_volume(), _volume()]),
            ["pod_template.spec.volumes[0].name", "pod_template.spec.volumes[1].name"],
        ),
        (_spec(volumes=[_volume(emptyDir={}, configMap={"name": "a"})]), ["pod_template.spec.volumes[0]"]),
        (_spec(containers=[{"name": "init"}]), ["pod_template.spec.containers[0].name"]),
        (_spec(containers=[{"name": "trainer", "image": "a b"}]), ["pod_template.spec.containers[0].image"]),
        (_mounted({"name": "other", "mountPath": "/data"}), ["pod_template.spec.containers[0].volume_mounts[0].name"]),
        (
            _mounted({"name": "data", "mountPath": "data"}),
            ["pod_template.spec.containers[0].volume_mounts[0].mountPath"],
        ),
        (
            _mounted({"name": "data", "mountPath": "/a/../b"}),
            ["pod_template.spec.containers[0].volume_mounts[0].mountPath"],
        ),
        (
            _mounted({"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/a/"}),
            [f"pod_template.spec.containers[0].volume_mounts[{index}].mountPath" for index in (0, 1)],
        ),
    ],
)
def test_value_that_breaks_a_rule_is_named(template: Any, fields: list[str]) -> None:
    assert refused(template) == fields


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "/.", "/var", "/var/lib/aisandbox/x", "/app", "/opt", "/dev/shm", "/var//lib/aisandbox"),
        *("/usr", "//usr", "/./usr/", "/usr/local", "/usr/local/lib/python3.13", "/usr/local/lib/python3.13/json"),
        *("/lib", "/lib64", "/bin", "/sbin", "/etc", "/etc/ld.so.preload", "/app/../usr", "/usr/.."),
        *("/run", "/run/secrets", "/run/secrets/aisandbox", "/opt/venv/lib"),
    ],
)
def test_mount_hides_nothing_that_the_trainer_needs(path: str) -> None:
    assert refused(_mounted({"name": "data", "mountPath": path})) == [
        "pod_template.spec.containers[0].volume_mounts[0].mountPath"
    ]


@pytest.mark.parametrize("path", ["/data", "/tmp", "/application", "/var/lib/aisandbox-data", "/users", "/run/data"])
def test_mount_elsewhere_is_taken(path: str) -> None:
    validate_spec(spec_with(_mounted({"name": "data", "mountPath": path})))


def test_template_is_bounded() -> None:
    assert refused(_spec(volumes=[_volume(f"v{i}") for i in range(33)])) == ["pod_template.spec.volumes"]
    assert "pod_template.spec.containers" in refused(_spec(containers=[{"name": "trainer"}] * 2))


JSON = st.recursive(
    st.none() | st.text(max_size=4) | st.integers(), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)


@given(st.dictionaries(st.sampled_from(["name", "emptyDir", "mountPath", "runAsUser", "x"]), JSON, max_size=3))
def test_validation_raises_nothing_else(entry: dict[str, Any]) -> None:
    for template in (
        _spec(volumes=[entry]),
        _spec(imagePullSecrets=[entry]),
        _spec(securityContext=entry),
        _spec(volumes=[_volume()], containers=[{"name": "trainer", "volumeMounts": [entry]}]),
    ):
        with suppress(InvalidRun):
            validate_spec(spec_with(template))
