"""What an administrator allows in ``podTemplate``."""

from __future__ import annotations

from typing import Any

import pytest
from aisandbox_crds import Algorithm, FakeEnvironment, TrainingRunSpec
from aisandbox_crds.codec import pod_template_from_json
from aisandbox_operator.pod_template_limits import PodTemplateLimits, not_allowed, placement_not_allowed, read_limits
from aisandbox_operator.settings import Settings
from aisandbox_process.environ import InvalidSetting

EVERYTHING = PodTemplateLimits(images=("*",), service_accounts=("*",), user_ids=("*",), volumes=("*",))
NEEDED = {"POD_NAMESPACE": "sandbox", "TRAINER_IMAGE": "trainer:1"}


def refusals(limits: PodTemplateLimits, metadata: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    template = pod_template_from_json({"metadata": metadata or {}, "spec": spec}, "podTemplate")
    return [error.field for error in not_allowed(template, limits)]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"containers": [{"name": "trainer", "image": "mine:1"}]}, "podTemplate.spec.containers[0].image"),
        ({"serviceAccountName": "default"}, "podTemplate.spec.serviceAccountName"),
        ({"securityContext": {"runAsUser": 1000}}, "podTemplate.spec.securityContext.runAsUser"),
        ({"securityContext": {"supplementalGroups": [0]}}, "podTemplate.spec.securityContext.supplementalGroups"),
        ({"securityContext": {"runAsUser": None}}, "podTemplate.spec.securityContext.runAsUser"),
        ({"securityContext": {"fsGroupChangePolicy": None}}, "podTemplate.spec.securityContext.fsGroupChangePolicy"),
        ({"securityContext": {"seLinuxOptions": {}}}, "podTemplate.spec.securityContext.seLinuxOptions"),
        (
            {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
            "podTemplate.spec.securityContext.seLinuxOptions",
        ),
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
    assert refusals(PodTemplateLimits(), **spec) == [field]
    assert refusals(EVERYTHING, **spec) == []


def _ephemeral(metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    claim = {"metadata": metadata or {}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {}, **spec}}
    return {"name": "new", "ephemeral": {"volumeClaimTemplate": claim}}


@pytest.mark.parametrize(
    "volume",
    [
        _ephemeral(dataSource={"kind": "PersistentVolumeClaim", "name": "secrets"}),
        _ephemeral(dataSourceRef={"kind": "VolumeSnapshot", "name": "secrets"}),
        _ephemeral(volumeName="volume-of-others"),
        _ephemeral(selector={"matchLabels": {"team": "others"}}),
        _ephemeral({"annotations": {"nfs.io/storage-path": "../others"}}),
    ],
)
def test_ephemeral_volume_of_what_exists_is_refused(volume: dict[str, Any]) -> None:
    assert refusals(PodTemplateLimits(), volumes=[volume]) == ["podTemplate.spec.volumes[0]"]
    assert refusals(PodTemplateLimits(volumes=("ephemeral", "ephemeral/*")), volumes=[volume]) == []


def test_range_of_ids_allows_neither_null_nor_selinux() -> None:
    limits = PodTemplateLimits(user_ids=("1000-1999",))
    context = {"runAsUser": 1000, "runAsGroup": None, "seLinuxOptions": {"level": "s0"}}
    assert refusals(limits, securityContext=context) == [
        "podTemplate.spec.securityContext.runAsGroup",
        "podTemplate.spec.securityContext.seLinuxOptions",
    ]


@pytest.mark.parametrize(
    "key",
    ["sidecar.istio.io/inject", "vault.hashicorp.com/role", "k8s.v1.cni.cncf.io/networks", "iam.amazonaws.com/role"],
)
def test_annotation_that_others_act_on_is_refused(key: str) -> None:
    metadata = {"annotations": {key: "x", "karpenter.sh/do-not-disrupt": "true"}}
    assert refusals(PodTemplateLimits(), metadata) == ["podTemplate.metadata.annotations"]
    assert refusals(PodTemplateLimits(annotations=("*",)), metadata) == []


def nowhere(key: str) -> dict[str, Any]:
    """A node affinity that keeps off nodes with the label."""
    terms = [{"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def test_what_gives_no_power_is_allowed() -> None:
    volumes = [
        {"name": "maps", "configMap": {"name": "maps"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-set"}},
        {"name": "more"},
        _ephemeral(storageClassName="fast", volumeMode="Filesystem"),
        {"name": "both", "projected": {"sources": [{"configMap": {"name": "maps"}}]}},
    ]
    found = refusals(
        PodTemplateLimits(),
        {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}, "labels": {"c": "d"}},
        volumes=volumes,
        imagePullSecrets=[{"name": "registry"}],
        runtimeClassName="gvisor",
        schedulerName="volcano",
        affinity={"nodeAffinity": nowhere("node-role.kubernetes.io/control-plane")},
        topologySpreadConstraints=[{"maxSkew": 1}],
        securityContext={"fsGroupChangePolicy": "Always"},
        containers=[{"name": "trainer", "volumeMounts": [{"name": "maps", "mountPath": "/data"}]}],
    )
    assert found == []


def test_patterns_and_ranges_are_kept_to() -> None:
    limits = read_limits(
        {
            "images": ["registry.example.com/team/*"],
            "userIds": ["1000-1999", "65532"],
            "volumes": ["persistentVolumeClaim/data-*"],
            "annotations": ["team.example.com/*"],
        }
    )

    def of(image: str, user: int, claim: str, annotation: str) -> list[str]:
        return refusals(
            limits,
            {"annotations": {annotation: "x"}},
            containers=[{"name": "trainer", "image": image}],
            securityContext={"runAsUser": user},
            volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        )

    assert of("registry.example.com/team/trainer:2", 1999, "data-a", "team.example.com/a") == []
    assert len(of("registry.example.com/other/trainer:2", 2000, "models", "iam.example.com/role")) == 4


def test_message_names_what_is_allowed_and_where_it_is_set() -> None:
    template = pod_template_from_json({"spec": {"serviceAccountName": "admin"}}, "podTemplate")
    (error,) = not_allowed(template, read_limits({"serviceAccounts": ["reader", "writer-*"]}))
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
        ('{"maximum": {"memory": "much"}}', "maximum.memory: must be a quantity"),
        ('{"maximum": ["1Gi"]}', "maximum: must be an object"),
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
    assert settings.trainer_pod_allowed == PodTemplateLimits(images=("*",))
    assert settings.trainer_pod_template is not None
    assert settings.trainer_pod_template.spec is not None
    assert settings.trainer_pod_template.spec.security_context == {"runAsUser": None}


def test_template_of_the_administrator_that_every_job_would_be_refused_for_is_refused_at_the_start() -> None:
    for template in ('{"spec": {"securityContext": {"runAsUser": 0}}}', '{"spec": {"hostNetwork": true}}'):
        with pytest.raises(InvalidSetting, match=r"^TRAINER_POD_TEMPLATE: "):
            Settings.from_environ({**NEEDED, "TRAINER_POD_TEMPLATE": template})


def placement(limits: PodTemplateLimits, **fields: Any) -> list[str]:
    spec = TrainingRunSpec(Algorithm.PPO, total_timesteps=1, environment=FakeEnvironment(), **fields)
    return [error.field for error in placement_not_allowed(spec, limits)]


@pytest.mark.parametrize(
    ("fields", "refused", "key", "patterns"),
    [
        ({"priority_class_name": "system-node-critical"}, "priorityClassName", "priorityClasses", ["system-node-*"]),
        ({"priority_class_name": "aisandbox-server"}, "priorityClassName", "priorityClasses", ["aisandbox-server"]),
        ({"tolerations": ({"operator": "Exists"},)}, "tolerations[0]", "tolerations", ["<every taint>"]),
        (
            {"tolerations": ({"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"},)},
            "tolerations[0]", "tolerations", ["node-role.kubernetes.io/*"],
        ),
        (
            {"node_selector": {"node-role.kubernetes.io/control-plane": ""}},
            "nodeSelector", "nodeLabels", ["node-role.kubernetes.io/control-plane"],
        ),
        ({"resources": {"requests": {"memory": "10Ti"}}}, "resources.requests.memory", "maximum", {}),
        ({"labels": {"sidecar.istio.io/inject": "false"}}, "labels", "labels", ["sidecar.istio.io/*"]),
        ({"labels": {"azure.workload.identity/use": "true"}}, "labels", "labels", ["azure.workload.identity/*"]),
        ({"labels": {"aadpodidbinding": "admin"}}, "labels", "labels", ["aadpodidbinding"]),
    ],
)  # fmt: skip
def test_place_that_gives_power_is_refused_unless_it_is_named(
    fields: dict[str, Any], refused: str, key: str, patterns: Any
) -> None:
    assert placement(PodTemplateLimits(), **fields) == [refused]
    assert placement(read_limits({key: patterns}), **fields) == []


def test_place_that_gives_no_power_is_allowed() -> None:
    found = placement(
        PodTemplateLimits(),
        priority_class_name="night",
        tolerations=tuple(
            {"key": key, "operator": "Exists"} for key in ("nvidia.com/gpu", "node-role.kubernetes.io/gpu")
        ),
        node_selector={"accelerator": "nvidia", "kubernetes.io/arch": "amd64", "node-role.kubernetes.io/gpu": ""},
        labels={"team": "games", "kueue.x-k8s.io/queue-name": "gpus", "example.com/team": "x", "notistio.io/team": "x"},
        resources={"limits": {"memory": "64Gi", "nvidia.com/gpu": 8}},
    )
    assert found == []


def test_labels_of_the_template_and_affinity_are_as_those_of_the_run() -> None:
    terms = [{"matchExpressions": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    found = refusals(
        PodTemplateLimits(), {"labels": {"linkerd.io/inject": "disabled"}}, affinity={"nodeAffinity": required}
    )
    assert found == ["podTemplate.metadata.labels", "podTemplate.spec.affinity.nodeAffinity"]


def test_claim_of_the_models_is_never_mounted() -> None:
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    template = pod_template_from_json({"spec": {"volumes": volumes}}, "podTemplate")
    (error,) = not_allowed(template, read_limits({"volumes": ["*"]}), "models")
    assert error.field == "podTemplate.spec.volumes[0]"


def test_narrower_labels_hold_for_every_key() -> None:
    limits = read_limits({"labels": ["team", "games.example.com/*"]})
    assert placement(limits, labels={"team": "a", "games.example.com/stage": "b"}) == []
    assert placement(limits, labels={"other": "a"}) == ["labels"]
    assert placement(limits, labels={"example.com/games": "a"}) == ["labels"]
