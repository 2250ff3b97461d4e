"""What goes wrong on a cluster: parts restarted in the middle of things, objects deleted by hand, calls sent twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_crds.trainingrun import EXPERIMENT_ANNOTATION
from cluster import ENDLESS, SHORT, Cluster, manifest_of
from port_forward import PortForward
from waiting import wait_until

OPERATOR, API, INFERENCE = "aisandbox-operator", "aisandbox-api", "aisandbox-inference"
QUEUED = {"labels": {"kueue.x-k8s.io/queue-name": "nobody-admits"}}
"""With this label a run's Job is created suspended, so a test can have many runs and no trainer."""


@pytest.fixture
def endless_run(cluster: Cluster, run_name: Callable[[str], str]) -> Iterator[str]:
    """A run that trains, has saved a checkpoint, and does not end by itself."""
    name = run_name("endless")
    cluster.kubectl.apply(manifest_of(name, **ENDLESS))
    wait_until(lambda: cluster.status(name).get("latestCheckpoint"), seconds=240)
    yield name
    cluster.kubectl("delete", "trainingrun", name, "--ignore-not-found", "--wait=false")
    cluster.until_gone(name)


def _status(service: PolicyTrainerServiceStub, run_id: str) -> pb.StatusResponse:
    return service.GetTrainingStatus(pb.StatusRequest(run_id=run_id), timeout=60)


def _until_further(service: PolicyTrainerServiceStub, run_id: str, than: int) -> pb.StatusResponse:
    return wait_until(lambda: _status(service, run_id), lambda status: status.timesteps_done > than, seconds=180)


def _uids(objects: list[Any]) -> list[str]:
    return [each.metadata.uid if hasattr(each, "metadata") else each["metadata"]["uid"] for each in objects]


@contextmanager
def _absent(cluster: Cluster, deployment: str) -> Iterator[None]:
    """The Deployment has no pod meanwhile."""
    cluster.kubectl("scale", f"deployment/{deployment}", "--replicas=0")
    try:
        selector = f"app.kubernetes.io/name={deployment}"
        wait_until(lambda: len(cluster.pods_with(selector)), lambda pods: pods == 0, seconds=120)
        yield
    finally:
        cluster.kubectl("scale", f"deployment/{deployment}", "--replicas=1")
        cluster.until_rolled_out(deployment)


def _delete_pods(cluster: Cluster, deployment: str) -> None:
    cluster.kubectl("delete", "pod", "-l", f"app.kubernetes.io/name={deployment}", "--wait=false")


def test_run_deleted_while_its_pod_starts_leaves_nothing(cluster: Cluster, run_name: Callable[[str], str]) -> None:
    name = run_name("starting")
    cluster.kubectl.apply(manifest_of(name, **SHORT))
    wait_until(lambda: cluster.pods(name), seconds=60, every=0.05)
    cluster.kubectl("delete", "trainingrun", name, "--wait=false")
    cluster.until_gone(name, seconds=180)


@pytest.mark.smoke
def test_operator_replaced_in_the_middle_of_a_run_changes_nothing_of_it(
    endless_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    job, pods = cluster.job(endless_run), cluster.pods(endless_run)
    assert job is not None
    _delete_pods(cluster, OPERATOR)
    cluster.until_rolled_out(OPERATOR)
    _until_further(service, endless_run, _status(service, endless_run).timesteps_done)
    same = cluster.job(endless_run)
    assert same is not None
    assert _uids([same, *cluster.pods(endless_run)]) == _uids([job, *pods])
    assert cluster.status(endless_run).get("restarts", 0) == 0
    service.CancelTraining(pb.CancelTrainingRequest(run_id=endless_run), timeout=20)
    cluster.until_phase(endless_run, "Cancelled", seconds=150)


def test_operator_catches_up_with_what_happened_while_it_was_away(
    endless_run: str, cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    ending, created, never = run_name("ending"), run_name("created"), run_name("never")
    cluster.kubectl.apply(manifest_of(ending, **SHORT))
    wait_until(lambda: cluster.pods(ending), seconds=60)
    with _absent(cluster, OPERATOR):
        cluster.kubectl.apply(manifest_of(created, **SHORT))
        cluster.kubectl.apply(manifest_of(never, **SHORT))
        cluster.kubectl("delete", "trainingrun", endless_run, never)
        wait_until(lambda: cluster.job(ending), _is_complete, seconds=180)
        assert cluster.job(created) is None
    assert cluster.until_phase(ending, "Succeeded", "Failed")["phase"] == "Succeeded"
    assert cluster.until_phase(created, "Succeeded", "Failed", seconds=180)["phase"] == "Succeeded"
    cluster.until_gone(endless_run, seconds=180)
    cluster.until_gone(never)


def _is_complete(job: dict[str, Any] | None) -> bool:
    conditions = (job or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == "Complete" and each["status"] == "True" for each in conditions)


def test_operator_replaced_while_runs_are_created_and_deleted_gives_each_one_job(
    cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    names = [run_name("burst") for _ in range(20)]
    kept, deleted = names[::2], names[1::2]
    for number, name in enumerate(names):
        cluster.kubectl.apply(manifest_of(name, **ENDLESS, **QUEUED))
        if number in (5, 12):
            _delete_pods(cluster, OPERATOR)
        if name in deleted:
            cluster.kubectl("delete", "trainingrun", name, "--wait=false")
    cluster.until_rolled_out(OPERATOR)
    wait_until(
        lambda: {job["metadata"]["name"] for job in cluster.jobs()}, lambda there: there >= set(kept), seconds=120
    )
    for name in kept:
        run, job = cluster.run(name), cluster.job(name)
        assert run is not None
        assert job is not None
        assert [owner["uid"] for owner in job["metadata"]["ownerReferences"]] == [run["metadata"]["uid"]]
        assert job["spec"]["suspend"] is True
    for name in deleted:
        cluster.until_gone(name)
    mine = [job["metadata"]["name"] for job in cluster.jobs() if job["metadata"]["name"].startswith("burst-")]
    assert sorted(mine) == sorted(kept)


def test_api_server_killed_during_a_run_is_not_noticed_by_its_trainer(
    endless_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    (pod,) = cluster.pods(endless_run)
    before = _status(service, endless_run).timesteps_done
    cluster.kubectl("delete", "pod", "-l", f"app.kubernetes.io/name={API}", "--grace-period=0", "--force")
    cluster.until_rolled_out(API)
    after = _until_further(service, endless_run, before)
    assert (after.phase, after.restarts) == (pb.PHASE_RUNNING, 0)
    wait_until(lambda: cluster.status(endless_run)["progress"]["timesteps"], lambda done: done >= after.timesteps_done)
    (same,) = cluster.pods(endless_run)
    assert (same.metadata.uid, same.status.container_statuses[0].restart_count) == (pod.metadata.uid, 0)


def test_run_succeeds_without_an_api_server(
    cluster: Cluster, service: PolicyTrainerServiceStub, run_name: Callable[[str], str]
) -> None:
    name = run_name("untold")
    with _absent(cluster, API):
        cluster.kubectl.apply(manifest_of(name, **SHORT))
        status = cluster.until_phase(name, "Succeeded", "Failed", seconds=180)
        assert (status["phase"], status["progress"]["timesteps"]) == ("Succeeded", 512)
    answer = _status(service, name)
    assert (answer.phase, answer.timesteps_done) == (pb.PHASE_SUCCEEDED, 512)


def test_inference_server_is_ready_only_when_it_can_answer(
    trained_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    space = service.DescribeModel(pb.DescribeModelRequest(run_id=trained_run), timeout=60).observation_space
    request = pb.ActRequest(run_id=trained_run, observation=[0.0] * _width(space), model="final")
    before = service.Act(request, timeout=60)
    selector = f"app.kubernetes.io/name={INFERENCE}"
    old = _uids(cluster.pods_with(selector))
    _delete_pods(cluster, INFERENCE)

    def new_ones() -> list[Any]:
        return [pod for pod in cluster.pods_with(selector) if pod.metadata.uid not in old and _is_ready(pod)]

    (pod, *_) = wait_until(new_ones, seconds=120, every=0.1)
    with (
        PortForward(cluster.kubectl, f"pod/{pod.metadata.name}", 50051) as forward,
        grpc.insecure_channel(forward.address) as channel,
    ):
        assert PolicyTrainerServiceStub(channel).Act(request, timeout=20) == before
    assert service.Act(request, timeout=60) == before


def _width(space: Any) -> int:
    """Of a space that is one Box."""
    width = 1
    for size in space.box.shape:
        width *= size
    return width


def _is_ready(pod: Any) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])


def test_job_deleted_by_hand_is_created_again_and_the_run_continues(
    endless_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    job, before = cluster.job(endless_run), _status(service, endless_run)
    assert job is not None
    cluster.kubectl("delete", "job", endless_run)
    again = wait_until(
        lambda: cluster.job(endless_run), lambda new: new is not None and _uids([new]) != _uids([job]), seconds=180
    )
    assert again is not None
    status = wait_until(
        lambda: _status(service, endless_run),
        # The operator counts restarts, from what the api-server has written of the new attempt.
        lambda status: (
            status.restarts and status.resumed_from.timesteps and status.timesteps_done > before.timesteps_done
        ),
        seconds=240,
    )
    assert status.restarts == 1
    assert status.resumed_from.timesteps >= before.latest_checkpoint.timesteps


def test_job_of_a_finished_run_deleted_by_hand_is_not_made_again(
    cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    name, later = run_name("finished"), run_name("later")
    cluster.kubectl.apply(manifest_of(name, **SHORT))
    done = cluster.until_phase(name, "Succeeded", "Failed", seconds=240)
    assert done["phase"] == "Succeeded"
    cluster.kubectl("delete", "job", name)
    cluster.kubectl("annotate", "trainingrun", name, "touched=yes")
    _delete_pods(cluster, OPERATOR)  # the one that comes has only the resource to go by
    cluster.until_rolled_out(OPERATOR)
    cluster.kubectl.apply(manifest_of(later, **ENDLESS, **QUEUED))
    wait_until(lambda: cluster.job(later))  # it has reconciled all runs by now
    assert cluster.job(name) is None
    assert cluster.pods(name) == []
    assert cluster.status(name)["completionTime"] == done["completionTime"]


def test_same_start_sent_many_times_at_once_starts_one_run(cluster: Cluster, service: PolicyTrainerServiceStub) -> None:
    senders = 12
    together = threading.Barrier(senders)
    request = pb.TrainingRequest(
        experiment_id=f"twice-{uuid.uuid4().hex[:6]}",
        total_timesteps=512,
        hyperparameters={"n_steps": "128"},
        request_id=str(uuid.uuid4()),
    )

    def send(_: int) -> str:
        together.wait()
        return service.StartTrainingPPO(request, timeout=60).run_id

    with ThreadPoolExecutor(senders) as pool:
        answers = set(pool.map(send, range(senders)))
    (run_id,) = answers
    of_experiment = [
        run["metadata"]["name"]
        for run in cluster.runs()
        if run["metadata"].get("annotations", {}).get(EXPERIMENT_ANNOTATION) == request.experiment_id
    ]
    assert of_experiment == [run_id]
    assert cluster.until_phase(run_id, "Succeeded", "Failed", seconds=240)["phase"] == "Succeeded"
    assert service.StartTrainingPPO(request, timeout=20).run_id == run_id
    assert len(cluster.pods(run_id)) == 1
    cluster.kubectl("delete", "trainingrun", run_id, "--wait=false")
