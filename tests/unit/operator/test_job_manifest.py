import json
from dataclasses import replace
from pathlib import Path

import pytest
from aisandbox_crds.effective_values import seed_of
from aisandbox_crds.pod_template import PodSpec, PodTemplate, TrainerContainer
from aisandbox_crds.spec import DemonstrationSettings, GymnasiumEnvironment, StartFrom
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store.prepare import prepare
from aisandbox_operator.decoding import read_job
from aisandbox_operator.job_manifest import JobOrigin, job_manifest
from aisandbox_operator.settings import Settings
from aisandbox_operator.trainer_pod import Manifest
from aisandbox_trainer.runtime.settings import Settings as TrainerSettings
from operator_objects import QUEUE, RUN_UID, SETTINGS, spec


def manifest(failures_before: int = 0, suspended: bool = False, **fields: object) -> Manifest:
    return job_manifest("walk", RUN_UID, spec(**fields), SETTINGS, failures_before, suspended)


def pod(job: Manifest) -> Manifest:
    found: Manifest = job["spec"]["template"]["spec"]
    return found


def environ(job: Manifest) -> dict[str, str]:
    """As the kubelet sets it."""
    (container,) = pod(job)["containers"]
    return {each["name"]: each["value"].replace("$$", "$") for each in container["env"] if "value" in each}


def references(job: Manifest) -> dict[str, Manifest]:
    """The variables that the kubelet reads from elsewhere."""
    (container,) = pod(job)["containers"]
    return {each["name"]: each["valueFrom"] for each in container["env"] if "valueFrom" in each}


def test_job_belongs_to_its_run() -> None:
    (owner,) = manifest()["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "aisandbox.dev/v1alpha1",
        "kind": "TrainingRun",
        "name": "walk",
        "uid": RUN_UID,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def test_job_is_the_same_each_time() -> None:
    assert json.dumps(manifest(labels=QUEUE)) == json.dumps(manifest(labels=QUEUE))


def test_trainer_reads_its_start_from_the_environment() -> None:
    kwargs = {"path": "$(HOME)/$x", "price": "$$"}
    start = TrainerStart.from_environ(environ(manifest(environment=GymnasiumEnvironment("CartPole-v1", kwargs))))
    assert (start.run_id, start.run_uid, start.attempt) == ("walk", RUN_UID, None)
    assert start.spec.environment == GymnasiumEnvironment("CartPole-v1", kwargs)
    assert start.progress_address == "api:50051"
    assert str(start.progress_token_file) == "/var/run/secrets/aisandbox/progress-token"
    assert str(start.models_dir) == str(start.checkpoint_dir) == "/var/lib/aisandbox"
    assert str(start.termination_message_path) == "/dev/termination-log"


def test_trainer_gets_the_authority_of_the_service_and_not_its_key() -> None:
    made = job_manifest("walk", RUN_UID, spec(), replace(SETTINGS, progress_ca_secret="api-tls"), 0, False)
    start = TrainerStart.from_environ(environ(made))
    assert str(start.progress_ca_file) == "/var/run/secrets/aisandbox/service-ca.crt"
    (token,) = (each for each in pod(made)["volumes"] if each["name"] == "progress-token")
    ca = {"secret": {"name": "api-tls", "items": [{"key": "ca.crt", "path": "service-ca.crt"}]}}
    assert token["projected"]["sources"][1:] == [ca]
    assert TrainerStart.from_environ(environ(manifest())).progress_ca_file is None


def test_kubelet_expands_nothing_in_what_the_user_wrote() -> None:
    (container,) = pod(manifest(environment=GymnasiumEnvironment("X-v0", {"a": "$(HOME)"})))["containers"]
    (value,) = (each["value"] for each in container["env"] if each["name"] == "RUN_SPEC")
    assert "$$(HOME)" in value


def test_seed_is_the_runs_own_unless_it_names_one() -> None:
    seed = TrainerStart.from_environ(environ(manifest())).spec.seed
    assert seed == seed_of(RUN_UID)
    assert 0 <= seed_of(RUN_UID) < 2**32
    assert seed_of("another") != seed
    assert TrainerStart.from_environ(environ(manifest(seed=0))).spec.seed == 0


def test_switches_that_are_off_are_off_in_the_trainer() -> None:
    off = replace(SETTINGS, grpc_direct="off", fast_update="off")
    job = environ(job_manifest("walk", RUN_UID, spec(), off, 0, suspended=False))
    assert not TrainerSettings.from_environ(job).fast_update
    assert job["GRPC_DIRECT"] == "off"
    assert not {"GRPC_DIRECT", "FAST_UPDATE"} & environ(manifest()).keys()


def test_trainer_gets_the_settings_that_are_passed_on() -> None:
    numbers = {"SIMULATOR_OPEN_TIMEOUT_SECONDS": "900", "EVALUATION_EPISODE_STEPS": "50"}
    given = replace(SETTINGS, trainer_numbers=numbers, termination_grace_seconds=45, trainer_memory_bytes=10**9)
    job = job_manifest("walk", RUN_UID, spec(), given, 0, suspended=False)
    read = TrainerSettings.from_environ(environ(job))
    assert (read.simulator_open_timeout, read.evaluation_episode_steps) == (900, 50)
    assert (read.stop_grace, pod(job)["terminationGracePeriodSeconds"]) == (45, 45)
    assert read.memory_bytes == 10**9
    assert references(job) == {}


def test_memory_of_a_trainer_is_the_limit_of_its_container() -> None:
    limited = {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi", "cpu": "4"}}
    source = references(manifest(resources=limited))["TRAINER_MEMORY_BYTES"]["resourceFieldRef"]
    assert source == {"containerName": "trainer", "resource": "limits.memory", "divisor": "1"}


@pytest.mark.parametrize(
    "resources",
    [{"requests": {"memory": "1Gi"}}, {"limits": {"cpu": "1"}}, {"limits": {"memory": "64Gi", "nvidia.com/gpu": "1"}}],
    ids=["no limits", "no limit of memory", "a GPU"],
)
def test_memory_of_a_trainer_is_its_own_default_otherwise(resources: dict[str, object]) -> None:
    job = manifest(resources=resources)
    assert "TRAINER_MEMORY_BYTES" not in environ(job) | references(job)


def test_trainer_does_not_get_what_only_the_operator_needs() -> None:
    spec_json = environ(manifest(suspend=True, labels={"team": "a"}, resources={"limits": {"cpu": "1"}}))["RUN_SPEC"]
    assert set(json.loads(spec_json)) == {"algorithm", "totalTimesteps", "environment", "seed"}


def test_pod_keeps_the_strictest_pod_security_standard() -> None:
    """Pod Security Standards, "restricted"."""
    found = pod(manifest())
    (container,) = found["containers"]
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["runAsUser"] == found["securityContext"]["fsGroup"] == 65532
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["automountServiceAccountToken"] is False


def test_only_token_is_for_progress() -> None:
    (token,) = (volume for volume in pod(manifest())["volumes"] if "projected" in volume)
    (source,) = token["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "aisandbox-progress"


def test_failures_count_by_their_kind_in_this_order() -> None:
    rules = manifest()["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob", "Ignore"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert [rule["onExitCodes"]["values"] for rule in rules[1:]] == [[78], [143]]


@pytest.mark.parametrize(("limit", "before", "left"), [(3, 0, 3), (3, 2, 1), (3, 3, 0), (0, 5, 0)])
def test_job_has_what_is_left_of_the_backoff_limit(limit: int, before: int, left: int) -> None:
    job = manifest(failures_before=before, backoff_limit=limit)
    assert job["spec"]["backoffLimit"] == left
    assert job["metadata"]["annotations"]["aisandbox.dev/failures-before"] == str(before)


def test_own_labels_win_and_kueues_stay_on_the_job() -> None:
    job = manifest(labels={**QUEUE, "team": "walkers", "aisandbox.dev/run": "another"})
    labels = job["metadata"]["labels"]
    assert labels["aisandbox.dev/run"] == "walk"
    assert labels["team"] == "walkers"
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus"
    inside = job["spec"]["template"]["metadata"]["labels"]
    assert inside == {key: value for key, value in labels.items() if not key.startswith("kueue")}


def test_scheduling_is_passed_on_and_resources_have_a_default() -> None:
    plain = pod(manifest())
    assert plain["containers"][0]["resources"] == SETTINGS.trainer_resources
    assert not {"nodeSelector", "tolerations", "priorityClassName"} & set(plain)
    said = pod(
        manifest(
            resources={"limits": {"nvidia.com/gpu": "1"}},
            node_selector={"gpu": "yes"},
            tolerations=({"key": "gpu", "operator": "Exists"},),
            priority_class_name="high",
        )
    )
    assert said["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert said["nodeSelector"] == {"gpu": "yes"}
    assert said["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert said["priorityClassName"] == "high"


def test_deadline_is_the_jobs() -> None:
    assert "activeDeadlineSeconds" not in manifest()["spec"]
    assert manifest(active_deadline_seconds=60)["spec"]["activeDeadlineSeconds"] == 60


def test_job_never_removes_itself() -> None:
    assert "ttlSecondsAfterFinished" not in manifest(ttl_seconds_after_finished=5)["spec"]


def test_job_says_for_which_generation_it_may_run() -> None:
    running = job_manifest("walk", RUN_UID, spec(), SETTINGS, 0, suspended=False, generation=4)
    waiting = job_manifest("walk", RUN_UID, spec(), SETTINGS, 0, suspended=True, generation=4)
    assert (read_job(running).resumed_generation, read_job(waiting).resumed_generation) == (4, 0)


def test_kubectl_logs_means_the_trainer() -> None:
    annotations = manifest()["spec"]["template"]["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/default-container"] == "trainer"


def test_origin_of_a_job_follows_the_spec_and_the_settings() -> None:
    def origin(settings: Settings = SETTINGS, **fields: object) -> JobOrigin | None:
        return read_job(job_manifest("walk", RUN_UID, spec(**fields), settings, 0, suspended=False)).origin

    first, other_image = origin(), origin(replace(SETTINGS, trainer_image="other"))
    assert first is not None
    assert first == origin(cancel=True) == origin(suspend=True) == origin(ttl_seconds_after_finished=5)
    assert other_image is not None
    assert (other_image.spec == first.spec, other_image.template == first.template) == (True, False)
    moved = origin(node_selector={"disk": "fast"})
    assert moved is not None
    assert (moved.spec == first.spec, moved.template == first.template) == (False, False)
    assert read_job({}).origin is None


def mounts_of(job: Manifest) -> list[Manifest]:
    (container,) = pod(job)["containers"]
    return [each for each in container["volumeMounts"] if each["name"] == "models"]


def test_trainer_has_its_runs_part_of_the_volume_only() -> None:
    own = {"name": "models", "mountPath": "/var/lib/aisandbox/runs/walk", "subPath": "runs/walk"}
    assert mounts_of(manifest()) == [own]
    source = {"name": "models", "subPath": "runs/.sources/walk", "readOnly": True}
    run = manifest(start_from=StartFrom(run="other"))
    assert mounts_of(run) == [own, {**source, "mountPath": "/var/lib/aisandbox/runs/other"}]
    zip_file = manifest(start_from=StartFrom(zip="./team/w.zip"))
    assert mounts_of(zip_file) == [own, {**source, "mountPath": "/var/lib/aisandbox/team/w.zip"}]
    taught = manifest(demonstrations=DemonstrationSettings("demos/d.parquet"))
    mount = {"mountPath": "/var/lib/aisandbox/demos/d.parquet", "subPath": "runs/.sources/walk.demonstrations"}
    assert mounts_of(taught) == [own, {**source, **mount}]
    (prepare,) = pod(taught)["initContainers"]
    assert {"name": "DEMONSTRATIONS", "value": "demos/d.parquet"} in prepare["env"]


@pytest.mark.parametrize("source", [StartFrom(run="other"), StartFrom(zip="team/w.zip")], ids=["run", "zip"])
def test_what_the_trainer_mounts_is_made_before_it_starts(tmp_path: Path, source: StartFrom) -> None:
    """Neither imports the other: the names below the volume are the contract between operator and model store."""
    job = manifest(start_from=source, demonstrations=DemonstrationSettings("demos/d.parquet"))
    (container,) = pod(job)["initContainers"]
    prepare({each["name"]: each["value"] for each in container["env"]} | {"MODELS_DIR": str(tmp_path)})
    paths = [mount["subPath"] for mount in mounts_of(job)]
    assert len(paths) == 3
    assert [path for path in paths if not (tmp_path / path).is_dir()] == []


def test_folders_are_made_before_the_trainer_by_a_container_without_the_runs_code() -> None:
    resources = {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}}
    template = PodTemplate(spec=PodSpec(containers=(TrainerContainer("trainer", image="mine:1"),)))
    job = manifest(start_from=StartFrom(zip="a$(HOME).zip"), resources=resources, pod_template=template)
    (prepare,) = pod(job)["initContainers"]
    (trainer,) = pod(job)["containers"]
    assert (prepare["image"], trainer["image"]) == ("aisandbox/trainer:1", "mine:1")
    assert prepare["command"] == ["python", "-P", "-m", "aisandbox_model_store.prepare"]
    assert prepare["volumeMounts"] == [{"name": "models", "mountPath": "/var/lib/aisandbox"}]
    assert prepare["securityContext"] == trainer["securityContext"]
    assert prepare["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    assert {each["name"]: each["value"] for each in prepare["env"]} == {
        "RUN_ID": "walk",
        "RUN_UID": RUN_UID,
        "MODELS_DIR": "/var/lib/aisandbox",
        "START_FROM_ZIP": "a$$(HOME).zip",
    }
