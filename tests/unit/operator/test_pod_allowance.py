"""What an administrator allows in ``podTemplate``."""

from __future__ import annotations

from typing import Any

import pytest
from aisandbox_crds.codec import pod_template_from_json
from aisandbox_operator.pod_allowance import PodAllowance, not_allowed, read_allowance
from aisandbox_operator.settings import Settings
from aisandbox_process.environ import InvalidSetting

EVERYTHING = PodAllowance(images=("*",), service_accounts=("*",), user_ids=("*",), volumes=("*",))
NEEDED = {"POD_NAMESPACE": "sandbox", "TRAINER_IMAGE": "trainer:1"}


def refusals(allowance: PodAllowance, metadata: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    template = pod_template_from_json({"metadata": metadata or {}, "spec": spec}, "podTemplate")
    return [error.field for error in not_allowed(template, allowance)]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"containers": [{"name": "trainer", "image": "mine:1"}]}, "podTemplate.spec.containers[0].image"),
        ({"serviceAccountName": "default"}, "podTemplate.spec.serviceAccountName"),
        ({"securityContext": {"runAsUser": 1000}}, "podTemplate.spec.securityContext.runAsUser"),
        ({"securityContext": {"supplementalGroups": [0]}}, "podTemplate.spec.securityContext.supplementalGroups"),
        ({"volumes": [{"name": "s", "secret": {"secretName": "keys"}}]}, "podTemplate.spec.volumes[0]"),
        ({"volumes": [{"name": "s", "hostPath": {"path": "/"}}]}, "podTemplate.spec.volumes[0]"),
        ({"volumes": [{"name": "s", "csi": {"driver": "secrets-store.csi.k8s.io"}}]}, "podTemplate.spec.volumes[0]"),
        (
            {"volumes": [{"name": "s", "projected": {"sources": [{"secret": {"name": "keys"}}]}}]},
            "podTemplate.spec.volumes[0]",
        ),
        (
            {"volumes": [{"name": "s", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "podTemplate.spec.volumes[0]",
        ),
    ],
)
def test_power_is_refused_unless_it_is_allowed(spec: dict[str, Any], field: str) -> None:
    assert refusals(PodAllowance(), **spec) == [field]
    assert refusals(EVERYTHING, **spec) == []


def test_what_gives_no_power_is_allowed() -> None:
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-set"}},
        {"name": "maps", "configMap": {"name": "maps"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "more"},
        {"name": "both", "projected": {"sources": [{"configMap": {"name": "maps"}}]}},
    ]
    found = refusals(
        PodAllowance(),
        {"annotations": {"a": "b"}, "labels": {"c": "d"}},
        volumes=volumes,
        imagePullSecrets=[{"name": "registry"}],
        runtimeClassName="gvisor",
        schedulerName="volcano",
        affinity={"nodeAffinity": {}},
        topologySpreadConstraints=[{"maxSkew": 1}],
        securityContext={"fsGroupChangePolicy": "Always"},
        containers=[{"name": "trainer", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    )
    assert found == []


def test_patterns_and_ranges_are_kept_to() -> None:
    allowance = read_allowance(
        {
            "images": ["registry.example.com/team/*"],
            "userIds": ["1000-1999", "65532"],
            "volumes": ["persistentVolumeClaim/data-*"],
            "annotations": ["team.example.com/*"],
        }
    )

    def of(image: str, user: int, claim: str, annotation: str) -> list[str]:
        return refusals(
            allowance,
            {"annotations": {annotation: "x"}},
            containers=[{"name": "trainer", "image": image}],
            securityContext={"runAsUser": user},
            volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        )

    assert of("registry.example.com/team/trainer:2", 1999, "data-a", "team.example.com/a") == []
    assert len(of("registry.example.com/other/trainer:2", 2000, "models", "iam.example.com/role")) == 4


def test_message_names_what_is_allowed_and_where_it_is_set() -> None:
    template = pod_template_from_json({"spec": {"serviceAccountName": "admin"}}, "podTemplate")
    (error,) = not_allowed(template, read_allowance({"serviceAccounts": ["reader", "writer-*"]}))
    assert error.rule == (
        "'admin' is not allowed; the administrator allows reader, writer-* (serviceAccounts in the operator's "
        "TRAINER_POD_ALLOWED)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": ["*"]}', "image: unknown; known: images, "),
        ('{"images": "*"}', "images: must be a list of patterns"),
        ('{"images": [""]}', "images: must be a list of patterns"),
        ('{"userIds": ["root"]}', "userIds: must be numbers, ranges as 1000-1999, or"),
    ],
)
def test_setting_that_breaks_its_rule_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^TRAINER_POD_ALLOWED: {message}"):
        Settings.from_environ({**NEEDED, "TRAINER_POD_ALLOWED": text})


def test_settings_are_read() -> None:
    template = '{"metadata": {"annotations": {"a": "b"}}, "spec": {"securityContext": {"runAsUser": null}}}'
    settings = Settings.from_environ(
        {**NEEDED, "TRAINER_POD_ALLOWED": '{"images": ["*"]}', "TRAINER_POD_TEMPLATE": template}
    )
    assert settings.trainer_pod_allowed == PodAllowance(images=("*",))
    assert settings.trainer_pod_template is not None
    assert settings.trainer_pod_template.spec is not None
    assert settings.trainer_pod_template.spec.security_context == {"runAsUser": None}


def test_template_of_the_administrator_that_every_job_would_be_refused_for_is_refused_at_the_start() -> None:
    for template in ('{"spec": {"securityContext": {"runAsUser": 0}}}', '{"spec": {"hostNetwork": true}}'):
        with pytest.raises(InvalidSetting, match=r"^TRAINER_POD_TEMPLATE: "):
            Settings.from_environ({**NEEDED, "TRAINER_POD_TEMPLATE": template})
