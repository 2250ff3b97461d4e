"""The pod of a Job with what ``podTemplate`` says: the administrator's, then the run's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aisandbox_crds.codec import pod_template_from_json
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.trainer_pod import Manifest
from operator_objects import QUEUE, RUN_UID, SETTINGS, spec

CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data-set"}}
MOUNT = {"name": "data", "mountPath": "/data", "readOnly": True}


def pod_of(run: dict[str, Any] | None = None, administrator: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    """The template of the Job's pod."""
    given = {"pod_template": pod_template_from_json(run, "podTemplate")} if run is not None else {}
    settings = SETTINGS
    if administrator is not None:
        settings = replace(SETTINGS, trainer_pod_template=pod_template_from_json(administrator, "template"))
    template: Manifest = job_manifest("walk", RUN_UID, spec(**given, **fields), settings, 0, False)["spec"]["template"]
    return template


def test_without_templates_the_pod_is_the_operators() -> None:
    assert pod_of({}) == pod_of({"metadata": {}, "spec": {}}) == pod_of()


def test_pod_has_what_the_run_asks_for() -> None:
    pod = pod_of(
        {
            "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}, "labels": {"team": "a"}},
            "spec": {
                "serviceAccountName": "reader",
                "imagePullSecrets": [{"name": "registry"}],
                "runtimeClassName": "gvisor",
                "schedulerName": "volcano",
                "affinity": {"nodeAffinity": {}},
                "topologySpreadConstraints": [{"maxSkew": 1}],
                "securityContext": {"runAsUser": 1000, "supplementalGroups": [7]},
                "volumes": [CLAIM],
                "containers": [{"name": "trainer", "image": "mine:1", "volumeMounts": [MOUNT]}],
            },
        }
    )
    before = pod_of()["spec"]
    assert pod["metadata"]["annotations"] == {**pod_of()["metadata"]["annotations"], "sidecar.istio.io/inject": "false"}
    assert pod["metadata"]["labels"] == {**pod_of()["metadata"]["labels"], "team": "a"}
    found = pod["spec"]
    assert found["serviceAccountName"] == "reader"
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert (found["runtimeClassName"], found["schedulerName"]) == ("gvisor", "volcano")
    assert (found["affinity"], found["topologySpreadConstraints"]) == ({"nodeAffinity": {}}, [{"maxSkew": 1}])
    assert found["securityContext"] == {**before["securityContext"], "runAsUser": 1000, "supplementalGroups": [7]}
    assert found["volumes"] == [*before["volumes"], CLAIM]
    (container,) = found["containers"]
    (trainer,) = before["containers"]
    assert container == {**trainer, "image": "mine:1", "volumeMounts": [*trainer["volumeMounts"], MOUNT]}


def test_run_goes_before_the_administrator_and_lists_grow() -> None:
    pod = pod_of(
        {"metadata": {"annotations": {"a": "run"}}, "spec": {"imagePullSecrets": [{"name": "r"}], "volumes": [CLAIM]}},
        {
            "metadata": {"annotations": {"a": "all", "b": "all"}},
            "spec": {"imagePullSecrets": [{"name": "all"}], "volumes": [{"name": "certificates", "configMap": {}}]},
        },
    )
    assert pod["metadata"]["annotations"] == {**pod_of()["metadata"]["annotations"], "a": "run", "b": "all"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "all"}, {"name": "r"}]
    assert [each["name"] for each in pod["spec"]["volumes"]] == ["models", "progress-token", "certificates", "data"]


def test_null_leaves_the_user_to_the_cluster() -> None:
    ids = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    context = pod_of(None, {"spec": {"securityContext": ids}})["spec"]["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
    assert context["runAsNonRoot"] is True


def test_labels_of_the_operator_win() -> None:
    run = {"metadata": {"labels": {"aisandbox.dev/run": "another", "app.kubernetes.io/name": "x"}}}
    assert pod_of(run)["metadata"]["labels"] == pod_of()["metadata"]["labels"]


def test_labels_of_kueue_in_the_runs_metadata_are_the_jobs_only() -> None:
    own = {**QUEUE, "kueue.x-k8s.io/priority-class": "night", "team": "a"}
    job = job_manifest("walk", RUN_UID, spec(), SETTINGS, 0, True, own)
    assert job["metadata"]["labels"].items() >= {**QUEUE, "kueue.x-k8s.io/priority-class": "night"}.items()
    assert "team" not in job["metadata"]["labels"]
    assert not [key for key in job["spec"]["template"]["metadata"]["labels"] if "kueue" in key]
    other = job_manifest("walk", RUN_UID, spec(labels={"kueue.x-k8s.io/queue-name": "day"}), SETTINGS, 0, True, own)
    assert other["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "day"


def test_pod_has_no_volume_that_a_drain_would_stop_at() -> None:
    """``kubectl drain`` and the cluster autoscaler leave pods with an emptyDir where they are."""
    pod = pod_of()["spec"]
    assert not [volume for volume in pod["volumes"] if "emptyDir" in volume or "hostPath" in volume]
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert variables["HOME"] == variables["TMPDIR"] == "/dev/shm"


def test_folders_are_prepared_by_the_administrators_image_and_never_by_the_runs() -> None:
    def images(**templates: str) -> tuple[str, str]:
        documents = {
            name: {"spec": {"containers": [{"name": "trainer", "image": image}]}} for name, image in templates.items()
        }
        spec = pod_of(**documents)["spec"]
        return spec["initContainers"][0]["image"], spec["containers"][0]["image"]

    default = SETTINGS.trainer_image
    assert images() == (default, default)
    assert images(run="runs:1") == (default, "runs:1")
    assert images(administrator="mirror/trainer:1") == ("mirror/trainer:1", "mirror/trainer:1")
    assert images(administrator="mirror/trainer:1", run="runs:1") == ("mirror/trainer:1", "runs:1")
