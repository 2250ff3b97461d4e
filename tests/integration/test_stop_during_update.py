"""A run that is stopped while its policy is updated, with a real service and a real trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from service_process import ServiceProcess
from waiting import wait_until

CARTPOLE = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id="CartPole-v1"))
LONG = {"n_steps": "2048", "n_envs": "16", "n_epochs": "60", "batch_size": "16"}
SHORTER = {"n_steps": "256", "n_envs": "16", "n_epochs": "100", "batch_size": "16"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A grace of six seconds: a stop waits two of them for the end of an update."""
    service = ServiceProcess(tmp_path, STOP_GRACE_SECONDS="6", MAX_CONCURRENT_RUNS="1")
    service.start()
    yield service
    service.end()


def status(service: ServiceProcess, run: str) -> Any:
    return service.stub.GetTrainingStatus(pb.StatusRequest(run_id=run))


def start(service: ServiceProcess, hyperparameters: dict[str, str]) -> str:
    request = pb.TrainingRequest(
        experiment_id="long",
        total_timesteps=10**9,
        seed=1,
        environment=CARTPOLE,
        hyperparameters=hyperparameters,
        checkpoint_every_timesteps=1,
    )
    run_id: str = service.stub.StartTrainingPPO(request).run_id
    return run_id


def wait_for(service: ServiceProcess, run: str, condition: Any) -> Any:
    def seen() -> Any:
        now = status(service, run)
        assert now.phase != pb.PHASE_FAILED, now.failure
        return now if condition(now) else None

    return wait_until(seen, seconds=400, every=0.1)


def is_updating(after: int) -> Any:
    return lambda now: now.activity == progress_pb.TRAINER_ACTIVITY_UPDATING and now.timesteps_done > after


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_suspension_in_a_long_update_loses_only_the_unfinished_rollout(service: ServiceProcess) -> None:
    rollout = int(LONG["n_steps"]) * int(LONG["n_envs"])
    run = start(service, LONG)
    assert wait_for(service, run, is_updating(0)).timesteps_done == rollout
    service.stub.SuspendTraining(pb.SuspendTrainingRequest(run_id=run))
    stopped = wait_for(service, run, lambda now: now.phase == pb.PHASE_SUSPENDED)
    assert stopped.restarts == 0, "the trainer was killed"
    assert (stopped.timesteps_done, stopped.timesteps_lost) == (0, rollout)
    said = f"the stop dropped the {rollout} timesteps of an unfinished rollout; the run resumes from step 0"
    assert said in stopped.warning
    service.stub.ResumeTraining(pb.ResumeTrainingRequest(run_id=run))
    resumed = wait_for(service, run, is_updating(0))
    assert (resumed.timesteps_done, resumed.timesteps_lost) == (rollout, rollout)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_stop_of_the_service_in_a_long_update_loses_only_the_unfinished_rollout(service: ServiceProcess) -> None:
    rollout = int(SHORTER["n_steps"]) * int(SHORTER["n_envs"])
    run = start(service, SHORTER)
    wait_for(service, run, is_updating(rollout))
    service.end()
    service.start()
    resumed = wait_for(service, run, lambda now: now.HasField("resumed_from"))
    assert resumed.resumed_from.timesteps == rollout
    assert resumed.timesteps_lost == rollout
    assert resumed.restarts == 0, "the trainer was killed"
