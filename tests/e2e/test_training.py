"""Training as users do it: started by gRPC and by kubectl, followed, acted with, suspended, deleted, failed.

The three algorithms train at the same time against one simulator Deployment; everything else is tested meanwhile.
Hyperparameters: RL Zoo's for CartPole-v1, DQN with a smaller net, all with fewer timesteps; it is the best model of the
evaluations that has to solve the task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import gymnasium
import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_wire.tensors import decode_tensor, encode_tensor
from cluster import ENDLESS, Cluster, manifest_of
from waiting import wait_until

EPISODES = 20
SOLVED = 400.0
"""A mean undiscounted return over EPISODES episodes; 500 is the most there is, and what all three reach as a rule."""

TRAINING_SECONDS = 480.0

TASKS = {
    "PPO": pb.TrainingRequest(
        total_timesteps=60_000,
        checkpoint_every_timesteps=10_000,
        hyperparameters={
            "n_steps": "32", "batch_size": "256", "gae_lambda": "0.8", "gamma": "0.98", "n_epochs": "20",
            "ent_coef": "0.0", "learning_rate": "lin_0.001", "clip_range": "lin_0.2",
        },
        environment=pb.Environment(grpc=pb.GrpcEnvironment(environments=8)),
    ),
    "A2C": pb.TrainingRequest(
        total_timesteps=60_000,
        checkpoint_every_timesteps=10_000,
        hyperparameters={"ent_coef": "0.0"},
        environment=pb.Environment(grpc=pb.GrpcEnvironment(environments=8)),
    ),
    "DQN": pb.TrainingRequest(
        total_timesteps=40_000,
        checkpoint_every_timesteps=5_000,
        hyperparameters={
            "learning_rate": "2.3e-3", "batch_size": "64", "buffer_size": "100000", "learning_starts": "1000",
            "gamma": "0.99", "target_update_interval": "10", "train_freq": "256", "gradient_steps": "128",
            "exploration_fraction": "0.16", "exploration_final_eps": "0.04",
            "policy_kwargs": "dict(net_arch=[64, 64])",
        },
        environment=pb.Environment(grpc=pb.GrpcEnvironment(environments=1)),
    ),
}  # fmt: skip


@dataclass
class Watched:
    """A run, and all that WatchTraining said of it."""

    run_id: str
    seen: list[pb.StatusResponse] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def watch(self, service: PolicyTrainerServiceStub) -> None:
        try:
            for status in service.WatchTraining(pb.WatchTrainingRequest(run_id=self.run_id)):
                self.seen.append(status)
            self.ended.append("OK")
        except grpc.RpcError as error:
            self.ended.append(repr(error))


@pytest.fixture(scope="module")
def trainings(
    request: pytest.FixtureRequest, service: PolicyTrainerServiceStub, simulator: str, cluster: Cluster
) -> Iterator[dict[str, Watched]]:
    """PPO, A2C and DQN, started by gRPC and watched; with ``-m smoke`` only those that a test asks for."""
    smoke = request.config.getoption("-m") == "smoke"
    trainings = {}
    for algorithm, task in TASKS.items():
        if smoke and algorithm != "PPO":
            continue
        wanted = pb.TrainingRequest(experiment_id=f"e2e-{algorithm}", seed=1, evaluation=pb.Evaluation(episodes=10))
        wanted.MergeFrom(task)
        wanted.environment.grpc.address = simulator
        start = getattr(service, f"StartTraining{algorithm}")
        watched = trainings[algorithm] = Watched(start(wanted, timeout=30).run_id)
        threading.Thread(target=watched.watch, args=(service,), daemon=True).start()
    yield trainings
    names = [watched.run_id for watched in trainings.values()]
    cluster.kubectl("delete", "trainingruns", "--ignore-not-found", "--wait=false", *names)


@pytest.fixture(scope="module")
def deleted_run(trainings: dict[str, Watched], cluster: Cluster) -> str:
    """A run that was deleted while it trained, after it had written files."""
    name = "e2e-deleted"
    cluster.kubectl.apply(manifest_of(name, **ENDLESS))
    wait_until(lambda: cluster.status(name).get("latestCheckpoint"), seconds=180)
    assert any(path.startswith("checkpoints/") for path in cluster.files(name))
    cluster.kubectl("delete", "trainingrun", name)
    return name


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.smoke if name == "PPO" else ()) for name in TASKS])
def training(request: pytest.FixtureRequest, trainings: dict[str, Watched]) -> Watched:
    return trainings[request.param]


def _status(service: PolicyTrainerServiceStub, run_id: str) -> pb.StatusResponse:
    return service.GetTrainingStatus(pb.StatusRequest(run_id=run_id), timeout=20)


def _code(call: Callable[..., Any], request: Any) -> grpc.StatusCode:
    try:
        call(request, timeout=20)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def _play(stub: PolicyTrainerServiceStub, run_id: str, model: str) -> list[float]:
    """Undiscounted returns of EPISODES episodes of cart-pole, driven by ActBatch."""
    environments = [gymnasium.make("CartPole-v1") for _ in range(EPISODES)]
    observations = [each.reset(seed=10_000 + index)[0] for index, each in enumerate(environments)]
    returns = np.zeros(EPISODES)
    playing = list(range(EPISODES))
    while playing:
        tensor = encode_tensor(np.stack([observations[index] for index in playing]))
        answer = stub.ActBatch(pb.ActBatchRequest(run_id=run_id, model=model, observations=[tensor]), timeout=30)
        going_on = []
        for index, action in zip(playing, decode_tensor(answer.actions), strict=True):
            observations[index], reward, terminated, truncated, _ = environments[index].step(int(action))
            returns[index] += float(reward)
            if not (terminated or truncated):
                going_on.append(index)
        playing = going_on
    return [float(value) for value in returns]


def test_started_run_has_a_resource_and_a_job(training: Watched, cluster: Cluster) -> None:
    job = wait_until(lambda: cluster.job(training.run_id))
    run = cluster.run(training.run_id)
    assert job is not None
    assert run is not None
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("TrainingRun", run["metadata"]["uid"], True)
    assert run["spec"]["seed"] == 1


def test_run_of_a_manifest_is_served_like_one_started_by_grpc(
    trainings: dict[str, Watched], cluster: Cluster, service: PolicyTrainerServiceStub, run_name: Callable[[str], str]
) -> None:
    name = run_name("by-kubectl")
    cluster.kubectl.apply(
        manifest_of(name, algorithm="DQN", totalTimesteps=600, hyperparameters={"learning_starts": "100"})
    )
    cluster.until_phase(name, "Succeeded", "Failed", seconds=240)
    status = _status(service, name)
    assert (status.phase, status.timesteps_done, status.is_done) == (pb.PHASE_SUCCEEDED, 600, True)
    assert name in [run.run_id for run in service.ListTrainingRuns(pb.ListTrainingRunsRequest(), timeout=20).runs]
    description = service.DescribeModel(pb.DescribeModelRequest(run_id=name, model="final"), timeout=30)
    assert description.algorithm == pb.ALGORITHM_DQN
    assert description.model_timesteps == 600


def test_unreachable_simulator_is_reported_while_the_run_waits_for_it(
    unreachable_run: str, service: PolicyTrainerServiceStub
) -> None:
    def waits(status: pb.StatusResponse) -> bool:
        return status.activity == progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR and "nobody" in status.warning

    status = wait_until(lambda: _status(service, unreachable_run), waits, seconds=180)
    assert not status.is_done


def test_kubectl_get_shows_how_far_runs_are(trainings: dict[str, Watched], cluster: Cluster) -> None:
    ppo = trainings["PPO"].run_id
    wait_until(lambda: cluster.status(ppo).get("progress", {}).get("timesteps", 0) > 0, seconds=240)
    header, row = cluster.kubectl("get", "trainingruns", ppo).splitlines()
    assert header.split() == ["NAME", "ALGORITHM", "PHASE", "PROGRESS", "TIMESTEPS", "REWARD", "AGE"]
    columns = row.split()
    assert columns[:2] == [ppo, "PPO"]
    assert columns[2] in ("Running", "Succeeded")
    assert 0 < int(columns[4]) <= TASKS["PPO"].total_timesteps
    assert ppo in cluster.kubectl("get", "trun", "--no-headers")


def test_unsuitable_environment_fails_the_run_with_the_reason(
    service: PolicyTrainerServiceStub, cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    request = pb.TrainingRequest(experiment_id="e2e-continuous", total_timesteps=1000)
    request.environment.gymnasium.id = "Pendulum-v1"
    run_id = service.StartTrainingDQN(request, timeout=30).run_id
    status = wait_until(lambda: _status(service, run_id), lambda status: status.is_done, seconds=240)
    assert (status.phase, status.failure.reason) == (pb.PHASE_FAILED, "UnsupportedActionSpace")
    assert "Discrete" in status.failure.message
    resource = cluster.until_phase(run_id, "Failed")
    assert resource["failure"] == {"reason": status.failure.reason, "message": status.failure.message}
    failed = cluster.condition(run_id, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "UnsupportedActionSpace")
    assert resource.get("restarts", 0) == 0
    assert any("UnsupportedActionSpace" in event or "Discrete" in event for event in cluster.events(run_id))
    cluster.kubectl("delete", "trainingrun", run_id, "--wait=false")


def test_bad_hyperparameter_of_a_manifest_fails_the_run_with_its_name(
    cluster: Cluster, service: PolicyTrainerServiceStub, run_name: Callable[[str], str]
) -> None:
    name = run_name("bad-value")
    cluster.kubectl.apply(
        manifest_of(name, algorithm="PPO", totalTimesteps=1000, hyperparameters={"learning_rate": "quick"})
    )
    status = cluster.until_phase(name, "Failed", "Succeeded", seconds=240)
    assert status["phase"] == "Failed"
    assert status["failure"]["reason"] in ("InvalidHyperparameter", "InvalidRun", "InvalidSpec")
    assert "learning_rate" in status["failure"]["message"]
    assert "quick" in status["failure"]["message"]
    answer = wait_until(lambda: _status(service, name), lambda status: status.is_done)
    assert "learning_rate" in answer.failure.message


def test_deleted_run_takes_its_job_and_pods_along(
    deleted_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    cluster.until_gone(deleted_run, seconds=180)
    asked = pb.StatusRequest(run_id=deleted_run)
    wait_until(
        lambda: _code(service.GetTrainingStatus, asked), lambda code: code == grpc.StatusCode.NOT_FOUND, seconds=10
    )
    listed = service.ListTrainingRuns(pb.ListTrainingRunsRequest(page_size=1000), timeout=20).runs
    assert deleted_run not in [run.run_id for run in listed]


@pytest.mark.smoke
def test_suspended_run_continues_from_its_checkpoint(
    cluster: Cluster, service: PolicyTrainerServiceStub, run_name: Callable[[str], str]
) -> None:
    name = run_name("suspended")
    cluster.kubectl.apply(manifest_of(name, **ENDLESS))
    wait_until(lambda: _status(service, name).timesteps_done, lambda done: done > 2048, seconds=240)

    service.SuspendTraining(pb.SuspendTrainingRequest(run_id=name), timeout=20)
    cluster.until_phase(name, "Suspended", seconds=150)
    wait_until(
        lambda: [pod.status.phase for pod in cluster.pods(name)], lambda phases: "Running" not in phases, seconds=150
    )
    suspended = wait_until(
        lambda: _status(service, name), lambda status: status.phase == pb.PHASE_SUSPENDED and not status.is_done
    )
    checkpoint = suspended.latest_checkpoint
    assert checkpoint.timesteps == suspended.timesteps_done > 2048
    assert f"{checkpoint.path}/manifest.json" in cluster.files(name)
    assert cluster.condition(name, "Suspended")["status"] == "True"

    service.ResumeTraining(pb.ResumeTrainingRequest(run_id=name), timeout=20)
    resumed = wait_until(
        lambda: _status(service, name), lambda status: status.timesteps_done > suspended.timesteps_done, seconds=240
    )
    assert resumed.resumed_from.digest == checkpoint.digest
    # The steps of the rollout that the stop interrupted, and no others.
    assert (resumed.restarts, resumed.timesteps_lost) == (0, suspended.timesteps_lost)
    assert suspended.timesteps_lost < int(ENDLESS["hyperparameters"]["n_steps"])

    service.CancelTraining(pb.CancelTrainingRequest(run_id=name), timeout=20)
    cancelled = wait_until(lambda: _status(service, name), lambda status: status.is_done, seconds=150)
    assert cancelled.phase == pb.PHASE_CANCELLED
    # Steps of a rollout that the stop interrupted are not counted, so only the checkpoint is a lower bound.
    assert cancelled.timesteps_done >= checkpoint.timesteps


@pytest.mark.timeout(TRAINING_SECONDS + 60)
def test_training_succeeds_and_was_followed_to_its_end(
    training: Watched, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    status = wait_until(
        lambda: _status(service, training.run_id), lambda status: status.is_done, seconds=TRAINING_SECONDS
    )
    assert status.phase == pb.PHASE_SUCCEEDED, status.failure
    assert status.total_timesteps <= status.timesteps_done < status.total_timesteps + 256  # rollouts are whole
    assert status.restarts == 0
    wait_until(lambda: training.ended == ["OK"] and training.seen[-1].is_done, seconds=30)
    counted = [seen.timesteps_done for seen in training.seen]
    assert counted == sorted(counted)
    assert len(set(counted)) > 5
    resource = cluster.until_phase(training.run_id, "Succeeded", seconds=30)
    assert resource["progress"]["timesteps"] == status.timesteps_done
    assert cluster.condition(training.run_id, "Complete")["status"] == "True"


def test_trained_run_has_checkpoints_and_models(
    training: Watched, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    status = _status(service, training.run_id)
    files = cluster.files(training.run_id)
    for artifact in (status.latest_checkpoint, status.latest_model, status.best_model):
        assert f"{artifact.path}/manifest.json" in files, (artifact, files)
    assert f"{status.latest_model.path}/policy.onnx" in files
    described = service.DescribeModel(pb.DescribeModelRequest(run_id=training.run_id, model="final"), timeout=30)
    assert described.model == status.latest_model.digest


def test_best_model_solves_the_task(training: Watched, inference: PolicyTrainerServiceStub) -> None:
    returns = _play(inference, training.run_id, "best")
    assert np.mean(returns) >= SOLVED, returns


@pytest.mark.smoke
def test_act_of_the_one_address_plays_an_episode(
    trainings: dict[str, Watched], service: PolicyTrainerServiceStub
) -> None:
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=20_000)
    steps, over = 0, False
    while not over:
        request = pb.ActRequest(run_id=trainings["PPO"].run_id, model="best", observation=observation.tolist())
        (action,) = service.Act(request, timeout=20).action
        observation, _, terminated, truncated, _ = environment.step(int(action))
        steps, over = steps + 1, terminated or truncated
    assert steps >= SOLVED


def test_files_of_a_deleted_run_go_after_the_retention(
    deleted_run: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    wait_until(lambda: cluster.files(deleted_run), lambda files: files == [], seconds=240, every=2)
    act = pb.ActRequest(run_id=deleted_run, observation=[0.0] * 4)
    wait_until(lambda: _code(service.Act, act), lambda code: code == grpc.StatusCode.NOT_FOUND, seconds=30)
