"""The operator against a real cluster, with trainers that do what the test says.

It runs as a process of the test in a namespace of the test, so that it can be killed at any moment; the installed
system is not touched. Needs the resource's definition and a registry that the nodes can pull from (REGISTRY).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aisandbox_crds.codec import spec_from_json
from aisandbox_crds.trainingrun import RUN_LABEL
from aisandbox_operator.job_manifest import job_manifest
from aisandbox_operator.settings import Settings
from cable import Cable
from cluster import Cluster, manifest_of
from kubernetes import client
from operator_process import OperatorProcess
from scripted_place import ENDED, scripted_operator, scripted_place, scripted_trainer_image
from waiting import wait_until


@pytest.fixture(scope="module")
def trainer_image(cluster: Cluster) -> str:
    return scripted_trainer_image(cluster.kubectl.context)


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    with scripted_place(cluster.kubectl.context, "operator") as place:
        yield place


@pytest.fixture(scope="module")
def make_operator(
    place: Cluster, trainer_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., OperatorProcess]:
    logs = tmp_path_factory.mktemp("operator")

    def make(name: str, **environ: str) -> OperatorProcess:
        return scripted_operator(place, trainer_image, logs / f"{name}.log", **environ)

    return make


@pytest.fixture(scope="module")
def operator(make_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    process = make_operator("operator", TRAINER_POD_ALLOWED='{"userIds": ["1000"]}')
    process.start()
    yield process
    process.stop()


@pytest.fixture
def start(place: Cluster, operator: OperatorProcess) -> Iterator[Callable[..., str]]:
    """Creates runs; they are deleted when the test ends, and the operator runs again."""
    names: list[str] = []

    def create(
        *script: str, steps: int = 10, tick: float = 0.05, labels: dict[str, str] | None = None, **spec: Any
    ) -> str:
        name = f"run-{secrets.token_hex(3)}"
        kwargs = {"script": list(script) or ["train"], "tick": tick}
        wanted = {
            "algorithm": "PPO",
            "totalTimesteps": steps,
            "environment": {"gymnasium": {"id": "CartPole-v1", "kwargs": kwargs}},
        }
        manifest = manifest_of(name, **{**wanted, **spec})
        manifest["metadata"]["labels"] = labels or {}
        place.kubectl.apply(manifest)
        names.append(name)
        return name

    yield create
    if operator.process is None:
        operator.start()
    if names:
        place.kubectl("delete", "trainingruns", "--ignore-not-found", "--wait=false", *names)


def change_spec(place: Cluster, name: str, **spec: Any) -> None:
    text = ",".join(f'"{key}":{str(value).lower()}' for key, value in spec.items())
    place.kubectl("patch", "trainingrun", name, "--type=merge", "-p", f'{{"spec":{{{text}}}}}')


def jobs_made(place: Cluster, name: str) -> list[str]:
    """The events of the operator about a Job that it has created."""
    return [event for event in place.events(name) if event.startswith("JobCreated")]


@pytest.mark.smoke
def test_run_succeeds_and_has_its_events(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=60)
    status = place.until_phase(name, *ENDED)
    assert status["phase"] == "Succeeded", status
    assert status["progress"]["timesteps"] == 60
    assert status["progress"]["progressPercentage"] == 100
    assert (status["attempt"], status["restarts"], status["observedGeneration"]) == (1, 0, 1)
    assert place.condition(name, "Complete")["status"] == "True"
    reasons = {event.partition(":")[0] for event in place.events(name)}
    assert reasons == {"JobCreated", "TrainerRunning", "Succeeded"}
    job = place.job(name)
    assert job is not None
    assert job["metadata"]["labels"][RUN_LABEL] == name


def test_run_has_nothing_of_kopfs_on_it(place: Cluster, start: Callable[..., str]) -> None:
    name = start()
    place.until_phase(name, "Succeeded")
    run = place.run(name)
    assert run is not None
    assert "finalizers" not in run["metadata"]
    assert not [key for key in run["metadata"].get("annotations", {}) if "kopf" in key]


@pytest.mark.smoke
def test_pod_is_shaped_by_the_run(place: Cluster, start: Callable[..., str]) -> None:
    place.kubectl("create", "configmap", "charts", "--from-literal=harbour=deep")
    annotation = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "aisandbox-trainer"}},
    }
    template = {
        "metadata": {"annotations": {annotation: "false"}, "labels": {"team": "games"}},
        "spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "affinity": {"podAntiAffinity": {}},
            "topologySpreadConstraints": [spread],
            "securityContext": {"supplementalGroups": [1000]},
            "volumes": [{"name": "charts", "configMap": {"name": "charts"}}],
            "containers": [{"name": "trainer", "volumeMounts": [{"name": "charts", "mountPath": "/data"}]}],
        },
    }
    name = start(podTemplate=template)
    status = place.until_phase(name, *ENDED)
    assert status["phase"] == "Succeeded", status
    (pod,) = place.pods(name)
    assert pod.metadata.annotations[annotation] == "false"
    assert pod.metadata.labels["team"] == "games"
    assert pod.spec.security_context.supplemental_groups == [1000]
    assert [each.name for each in pod.spec.image_pull_secrets] == ["registry"]
    assert "/data" in [mount.mount_path for mount in pod.spec.containers[0].volume_mounts]
    (constraint,) = pod.spec.topology_spread_constraints
    assert constraint.topology_key == "kubernetes.io/hostname"


def test_pod_that_is_not_allowed_fails_the_run_without_a_job(place: Cluster, start: Callable[..., str]) -> None:
    name = start(podTemplate={"spec": {"serviceAccountName": "default", "securityContext": {"runAsUser": 1001}}})
    status = place.until_phase(name, *ENDED)
    assert status["failure"]["reason"] == "NotAllowed"
    for field in ("spec.podTemplate.spec.serviceAccountName", "spec.podTemplate.spec.securityContext.runAsUser"):
        assert field in status["failure"]["message"]
    assert place.job(name) is None


def test_run_with_kueues_label_of_its_own_waits_for_kueue(place: Cluster, start: Callable[..., str]) -> None:
    """The test is Kueue."""
    labels = {"kueue.x-k8s.io/queue-name": "gpus", "kueue.x-k8s.io/priority-class": "night"}
    name = start(labels=labels)
    wait_until(lambda: place.condition(name, "Running"), lambda found: found.get("reason") == "Queued")
    assert place.status(name)["phase"] == "Pending"
    assert "queue 'gpus'" in place.condition(name, "Running")["message"]
    job = place.job(name)
    assert job is not None
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"].items() >= labels.items()
    place.kubectl("patch", "job", name, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    assert place.until_phase(name, *ENDED)["phase"] == "Succeeded"


def test_permanent_failure_fails_the_run_at_once(place: Cluster, start: Callable[..., str]) -> None:
    name = start("permanent")
    status = place.until_phase(name, *ENDED)
    assert status["failure"] == {"reason": "UnsuitableSpace", "message": "no attempt can succeed"}
    assert (status["restarts"], status["restartsCountTowardsMax"]) == (0, 0)
    assert not [event for event in place.events(name) if event.startswith("Retrying")]


def test_bad_hyperparameter_fails_without_a_job(place: Cluster, start: Callable[..., str]) -> None:
    name = start(hyperparameters={"gamma": "much"})
    status = place.until_phase(name, *ENDED)
    assert status["failure"]["reason"] == "InvalidRun"
    assert status["failure"]["message"].startswith("spec.hyperparameters.gamma: must be a number")
    assert place.job(name) is None


@pytest.mark.smoke
def test_crash_is_retried_and_counted(place: Cluster, start: Callable[..., str]) -> None:
    name = start("crash", "train")
    status = place.until_phase(name, *ENDED, seconds=120)
    assert status["phase"] == "Succeeded", status
    assert (status["attempt"], status["restarts"], status["restartsCountTowardsMax"]) == (2, 1, 1)


def test_out_of_memory_fails_the_run_when_the_backoff_limit_is_spent(place: Cluster, start: Callable[..., str]) -> None:
    name = start("oom", backoffLimit=1)
    status = place.until_phase(name, *ENDED, seconds=120)
    ends = [pod.status.container_statuses[0].state.terminated for pod in place.pods(name)]
    assert [end.exit_code for end in ends] == [137, 137]
    # A container runtime on cgroup v1 says "Error" if it learns of the end before it learns of the memory.
    assert status["failure"]["reason"] == ("OOMKilled" if ends[-1].reason == "OOMKilled" else "TrainerKilled"), status
    assert "spec.resources.limits.memory" in status["failure"]["message"]
    assert "given up after 1 restarts" in status["failure"]["message"]
    assert status["restartsCountTowardsMax"] == 1


def test_suspend_and_resume_lose_nothing(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=100, tick=0.1)
    place.until_phase(name, "Running")
    change_spec(place, name, suspend=True)
    paused = place.until_phase(name, "Suspended")
    assert all(pod.status.phase in ("Succeeded", "Failed") for pod in place.pods(name))
    assert (paused["attempt"], paused["suspensions"]) == (1, 1)
    assert place.condition(name, "Suspended")["status"] == "True"
    change_spec(place, name, suspend=False)
    status = place.until_phase(name, *ENDED)
    assert status["phase"] == "Succeeded", status
    assert (status["attempt"], status["restarts"], status["restartsCountTowardsMax"]) == (2, 0, 0)


def test_run_created_suspended_starts_when_it_may(place: Cluster, start: Callable[..., str]) -> None:
    name = start(suspend=True)
    place.until_phase(name, "Suspended")
    job = wait_until(lambda: place.job(name))
    assert job is not None
    assert job["spec"]["suspend"] is True
    change_spec(place, name, suspend=False)
    assert place.until_phase(name, *ENDED)["phase"] == "Succeeded"


@pytest.mark.smoke
def test_cancel_ends_the_run_after_its_checkpoint(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=10_000)
    place.until_phase(name, "Running")
    change_spec(place, name, cancel=True)
    status = place.until_phase(name, *ENDED)
    assert status["phase"] == "Cancelled", status
    assert "failure" not in status
    assert status["progress"]["timesteps"] > 0
    wait_until(lambda: place.job(name) is None and not place.pods(name))


def test_queued_run_is_left_to_kueue(place: Cluster, start: Callable[..., str]) -> None:
    name = start(labels={"kueue.x-k8s.io/queue-name": "gpus"}, steps=1000)
    status = place.until_phase(name, "Pending", seconds=20)
    wait_until(lambda: place.condition(name, "Running").get("reason") == "Queued")
    job = place.job(name)
    assert job is not None
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    place.kubectl("patch", "job", name, "--type=merge", "-p", '{"spec":{"suspend":false}}')  # as Kueue admits it
    place.until_phase(name, "Running")
    place.kubectl("patch", "job", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')  # as Kueue preempts it
    status = place.until_phase(name, "Pending")
    assert (status["suspensions"], status["restartsCountTowardsMax"]) == (1, 0)
    change_spec(place, name, suspend=True)
    place.until_phase(name, "Suspended")
    wait_until(lambda: place.job(name) is None)


@pytest.fixture
def fail_under(
    place: Cluster, make_operator: Callable[..., OperatorProcess], operator: OperatorProcess, start: Callable[..., str]
) -> Callable[..., tuple[str, dict[str, Any]]]:
    """fail_under(name of an operator, **settings of it) -> a run of it and its status at the end"""

    def fail_under(operator_name: str, **settings: str) -> tuple[str, dict[str, Any]]:
        operator.stop()
        other = make_operator(operator_name, **settings)
        other.start()
        try:
            name = start()
            return name, place.until_phase(name, *ENDED, seconds=60)
        finally:
            other.stop()

    return fail_under


def test_image_that_cannot_be_pulled_fails_the_run_in_time(
    place: Cluster, fail_under: Callable[..., tuple[str, dict[str, Any]]]
) -> None:
    name, status = fail_under("wrong-image", TRAINER_IMAGE="localhost:5001/aisandbox/nothing:here")
    assert status["failure"]["reason"] == "ImagePullBackOff", status
    assert "nothing:here" in status["failure"]["message"]
    wait_until(lambda: place.job(name) is None)


def test_missing_volume_fails_the_run_in_time(fail_under: Callable[..., tuple[str, dict[str, Any]]]) -> None:
    _, status = fail_under("no-volume", MODELS_CLAIM="nowhere")
    assert status["failure"]["reason"] == "ClaimNotFound", status
    assert "nowhere" in status["failure"]["message"]


def test_run_for_which_no_node_has_room_waits(place: Cluster, start: Callable[..., str]) -> None:
    name = start(resources={"requests": {"cpu": "200"}})
    wait_until(lambda: place.condition(name, "Running").get("reason") == "Unschedulable")
    time.sleep(10)  # longer than the deadline of troubles that do not cure themselves
    assert place.status(name)["phase"] == "Starting"
    place.kubectl("patch", "trainingrun", name, "--type=merge", "-p", '{"spec":{"resources":null}}')
    assert place.until_phase(name, *ENDED)["phase"] == "Succeeded"


def test_reason_why_no_pod_can_be_created_is_in_the_status(place: Cluster, start: Callable[..., str]) -> None:
    name = start(priorityClassName="nobody-has-it")
    condition = wait_until(
        lambda: place.condition(name, "Running"), lambda condition: condition.get("reason") == "NoPod", seconds=60
    )
    assert "no PriorityClass with name nobody-has-it was found" in condition["message"]
    assert any("nobody-has-it" in event for event in place.events(name) if event.startswith("NoPod"))


@pytest.fixture
def absent_webhook(place: Cluster) -> Iterator[str]:
    """An admission webhook for the Jobs of this namespace whose server does not exist; its name."""
    name = f"absent-{place.namespace}"
    webhook = {
        "name": "jobs.absent.example.com",
        "clientConfig": {"service": {"name": "absent", "namespace": place.namespace, "path": "/"}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = "ValidatingWebhookConfiguration"
    manifest = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}}
    place.kubectl.apply({**manifest, "webhooks": [webhook]})
    yield name
    place.kubectl("delete", kind, name, "--ignore-not-found")


def test_run_waits_for_an_admission_webhook_that_is_down(
    place: Cluster, absent_webhook: str, start: Callable[..., str]
) -> None:
    create = ("create", "job", "probe", "--image=localhost/nothing:1", "--dry-run=server")
    wait_until(  # it takes a moment until the API server calls a new webhook
        lambda: place.kubectl.attempt(*create).stderr, lambda text: "failed calling webhook" in text, seconds=60
    )
    name = start()
    condition = wait_until(
        lambda: place.condition(name, "Running"),
        lambda condition: condition.get("reason") == "AdmissionWebhookUnavailable",
        seconds=60,
    )
    assert "jobs.absent.example.com" in condition["message"]
    assert place.status(name)["phase"] == "Pending"
    assert [event for event in place.events(name) if event.startswith("AdmissionWebhookUnavailable")]
    place.kubectl("delete", "ValidatingWebhookConfiguration", absent_webhook)
    assert place.until_phase(name, *ENDED)["phase"] == "Succeeded"


def test_job_that_another_client_suspends_is_left_to_that_client(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=10_000)
    place.until_phase(name, "Running")
    suspend = ("patch", "job", name, "--type=merge", "--field-manager=budget", "-p")
    place.kubectl(*suspend, '{"spec":{"suspend":true}}')
    condition = wait_until(
        lambda: place.condition(name, "Suspended"), lambda condition: condition.get("status") == "True", seconds=60
    )
    assert condition["reason"] == "JobSuspended"
    assert "suspended by budget" in condition["message"]
    assert [event for event in place.events(name) if event.startswith("JobSuspended")]
    job = place.job(name)
    assert job is not None
    assert job["spec"]["suspend"] is True
    place.kubectl(*suspend, '{"spec":{"suspend":false}}')
    assert place.until_phase(name, "Running")["restartsCountTowardsMax"] == 0


def test_waiting_run_gets_the_corrected_image(
    place: Cluster,
    make_operator: Callable[..., OperatorProcess],
    operator: OperatorProcess,
    start: Callable[..., str],
) -> None:
    operator.stop()
    wrong = "localhost:5001/aisandbox/misspelt:here"
    other = make_operator("misspelt", TRAINER_IMAGE=wrong, START_DEADLINE_SECONDS="600")
    other.start()
    try:
        name = start()
        wait_until(lambda: place.condition(name, "Running").get("reason") == "ImagePullBackOff", seconds=60)
    finally:
        other.stop()
    assert wrong in place.condition(name, "Running")["message"]
    operator.start()
    assert place.until_phase(name, *ENDED)["phase"] == "Succeeded"


def test_run_ends_with_its_trainer_also_beside_a_sidecar(
    place: Cluster, operator: OperatorProcess, start: Callable[..., str]
) -> None:
    operator.stop()
    name = start()
    run = place.run(name)
    assert run is not None
    settings = Settings.from_environ(operator.environ)
    uid = run["metadata"]["uid"]
    job = job_manifest(name, uid, spec_from_json(run["spec"]), settings, 0, suspended=False)
    containers = job["spec"]["template"]["spec"]["containers"]
    sleeps = {"name": "proxy", "command": ["python", "-c", "import time; time.sleep(10**6)"], "env": []}
    containers.insert(0, {**containers[0], **sleeps})
    place.kubectl.apply(job)
    operator.start()
    assert place.until_phase(name, *ENDED)["phase"] == "Succeeded"
    (pod,) = place.pods(name)
    assert pod.status.phase == "Succeeded"
    assert "attempt 1 does train" in place.kubectl("logs", f"job/{name}")
    assert [event for event in place.events(name) if event.startswith("SidecarsStopped")]
    wait_until(
        lambda: [each.state.terminated for each in place.pods(name)[0].status.container_statuses], all, seconds=60
    )


def test_node_that_does_not_answer_is_named(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=10_000)
    place.until_phase(name, "Running")
    (pod,) = place.pods(name)
    lost = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}  # as the node controller does

    def named() -> list[str]:
        place.core.patch_namespaced_pod_status(pod.metadata.name, place.namespace, lost)
        return [event for event in place.events(name) if event.startswith("NodeLost")]

    assert repr(pod.spec.node_name) in wait_until(named, seconds=60)[0]
    # The kubelet, which is well, corrects the pod.
    wait_until(lambda: place.condition(name, "Running").get("reason") == "TrainerRunning", seconds=120)


def test_job_that_the_api_server_refuses_fails_the_run(place: Cluster, start: Callable[..., str]) -> None:
    name = start(resources={"requests": {"nvidia.com/gpu": "1"}})
    status = place.until_phase(name, *ENDED)
    assert status["failure"]["reason"] == "JobRefused", status
    assert "Limit must be set" in status["failure"]["message"]


def test_run_deleted_while_its_pod_starts_leaves_nothing(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=10_000)
    wait_until(lambda: place.pods(name))
    place.kubectl("delete", "trainingrun", name, "--wait=false")
    place.until_gone(name)


def test_run_of_the_same_name_starts_after_the_one_before_it(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=10_000)
    place.until_phase(name, "Running")
    old = place.run(name)
    assert old is not None
    place.kubectl("delete", "trainingrun", name)
    place.kubectl.apply(manifest_of(name, **{**old["spec"], "totalTimesteps": 5}))
    status = place.until_phase(name, *ENDED)
    assert status["phase"] == "Succeeded", status
    assert status["progress"]["timesteps"] == 5


def test_job_of_another_owner_is_not_changed(place: Cluster, operator: OperatorProcess) -> None:
    name = f"taken-{secrets.token_hex(3)}"
    place.kubectl("create", "job", name, "--image=localhost/nothing:1")
    place.kubectl.apply(manifest_of(name, algorithm="PPO", totalTimesteps=5))
    status = place.until_phase(name, *ENDED)
    assert status["failure"]["reason"] == "JobNameTaken", status
    place.kubectl("delete", "trainingrun", name)
    assert place.job(name) is not None
    place.kubectl("delete", "job", name)


def test_job_deleted_by_hand_is_made_again_with_the_rest_of_its_budget(
    place: Cluster, start: Callable[..., str]
) -> None:
    name = start("crash", "train", steps=200, tick=0.1, backoffLimit=2)
    place.until_phase(name, "Running")
    wait_until(lambda: place.status(name).get("restartsCountTowardsMax") == 1, seconds=60)
    place.until_phase(name, "Running", seconds=60)
    first = place.job(name)
    place.kubectl("delete", "job", name, "--wait=false")
    second = wait_until(
        lambda: place.job(name),
        lambda job: job is not None and first is not None and job["metadata"]["uid"] != first["metadata"]["uid"],
    )
    assert second is not None
    assert second["spec"]["backoffLimit"] == 1
    status = place.until_phase(name, *ENDED, seconds=120)
    assert status["phase"] == "Succeeded", status
    assert status["restartsCountTowardsMax"] == 1


def test_finished_run_is_not_run_again_when_its_job_is_deleted(place: Cluster, start: Callable[..., str]) -> None:
    names = [start(), start("permanent")]
    before = {name: place.until_phase(name, *ENDED) for name in names}
    place.kubectl("delete", "jobs", *names)
    marker = start()  # the operator has reconciled everything by the time this one is done
    place.until_phase(marker, "Succeeded")
    for name in names:
        assert place.job(name) is None
        assert place.status(name) == before[name]


def test_time_to_live_removes_the_job_and_keeps_the_run(place: Cluster, start: Callable[..., str]) -> None:
    name = start(ttlSecondsAfterFinished=2)
    place.until_phase(name, "Succeeded")
    wait_until(lambda: place.job(name) is None and not place.pods(name))
    assert place.status(name)["phase"] == "Succeeded"


def test_eviction_spends_no_retry(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=150, tick=0.1, backoffLimit=0)
    place.until_phase(name, "Running")
    (pod,) = place.pods(name)
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=place.namespace))
    place.core.create_namespaced_pod_eviction(pod.metadata.name, place.namespace, eviction)
    status = place.until_phase(name, *ENDED, seconds=120)
    assert status["phase"] == "Succeeded", status
    assert (status["attempt"], status["restarts"], status["restartsCountTowardsMax"]) == (2, 1, 0)


def test_deadline_ends_the_run(place: Cluster, start: Callable[..., str]) -> None:
    name = start(steps=10_000, activeDeadlineSeconds=6)
    status = place.until_phase(name, *ENDED, seconds=90)
    assert status["failure"]["reason"] == "DeadlineExceeded", status


def test_operator_that_was_killed_finds_what_has_happened_meanwhile(
    place: Cluster, operator: OperatorProcess, start: Callable[..., str]
) -> None:
    quick, cancelled, deleted = (start(steps=steps) for steps in (60, 10_000, 10_000))
    for name in (quick, cancelled, deleted):
        place.until_phase(name, "Running")
    operator.kill()
    change_spec(place, cancelled, cancel=True)
    place.kubectl("delete", "trainingrun", deleted, "--wait=false")
    late = start()
    wait_until(lambda: (place.job(quick) or {})["status"].get("succeeded") == 1)
    operator.start()
    assert place.until_phase(quick, *ENDED)["phase"] == "Succeeded"
    assert place.until_phase(cancelled, *ENDED)["phase"] == "Cancelled"
    assert place.until_phase(late, *ENDED)["phase"] == "Succeeded"
    place.until_gone(deleted)


def test_operator_killed_repeatedly_makes_one_job_per_run(
    place: Cluster, operator: OperatorProcess, start: Callable[..., str]
) -> None:
    names = []
    for _ in range(4):
        names += [start("done"), start("done")]
        operator.kill()
        operator.start()
    for name in names:
        status = place.until_phase(name, *ENDED)
        assert (status["phase"], status["attempt"]) == ("Succeeded", 1), status
        assert len(place.pods(name)) == 1


def test_second_operator_by_mistake_is_harmless(
    place: Cluster, make_operator: Callable[..., OperatorProcess], start: Callable[..., str]
) -> None:
    second = make_operator("second")
    second.start()
    try:
        runs = [start("done") for _ in range(6)] + [start("crash", "train")]
        for name in runs:
            assert place.until_phase(name, *ENDED, seconds=120)["phase"] == "Succeeded"
        for name in runs[:-1]:
            assert len(place.pods(name)) == 1
            assert len(jobs_made(place, name)) == 1
        assert len(place.pods(runs[-1])) == 2
    finally:
        assert second.stop() == 0
    assert not second.errors()


def test_outage_of_the_api_server_is_waited_out(
    place: Cluster,
    make_operator: Callable[..., OperatorProcess],
    operator: OperatorProcess,
    start: Callable[..., str],
    tmp_path: Path,
) -> None:
    config = place.kubectl.json("config", "view", "--raw", "--minify", "--flatten")
    address = urlsplit(config["clusters"][0]["cluster"]["server"])
    cable = Cable(address.hostname or "", address.port or 443)
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{cable.port}"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    operator.stop()
    cabled = make_operator("cabled", KUBECONFIG=str(tmp_path / "kubeconfig"), RESYNC_SECONDS="300")
    cabled.start()
    try:
        running = start(steps=200)
        place.until_phase(running, "Running")
        cable.cut()
        born = start()
        time.sleep(25)  # the run ends meanwhile, and all backoffs grow
        assert "phase" not in place.status(born)
        cable.mend()
        for name in (running, born):
            assert place.until_phase(name, *ENDED, seconds=60)["phase"] == "Succeeded"
    finally:
        assert cabled.stop() == 0
        cable.close()
    assert not cabled.errors()


def test_metrics_and_probe_show_the_state(operator: OperatorProcess, start: Callable[..., str], place: Cluster) -> None:
    place.until_phase(start("done"), "Succeeded")
    assert operator.health() == "ok\n"
    metrics = operator.metrics()
    assert 'aisandbox_operator_runs{phase="Succeeded"}' in metrics
    for name in ("reconcile_seconds_count", "queue_depth", "resync_age_seconds", "jobs_created_total"):
        assert f"aisandbox_operator_{name}" in metrics
    assert 'aisandbox_operator_api_requests_total{status="200",verb="get"}' in metrics


@pytest.mark.smoke
def test_operator_ends_in_order_and_has_logged_no_error(operator: OperatorProcess) -> None:
    assert operator.stop() == 0
    assert not operator.errors()
