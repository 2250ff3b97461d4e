"""From a run to its StatusResponse.

Owns the translation of TrainingRun to StatusResponse. Must not know backends.
"""

from __future__ import annotations

from collections.abc import Mapping

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_crds.spec import Algorithm, Environment, GrpcEnvironment, GymnasiumEnvironment
from aisandbox_crds.status import Artifact, Phase
from aisandbox_crds.times import parse_time
from aisandbox_crds.trainingrun import EXPERIMENT_ANNOTATION, TrainingRun
from aisandbox_model_store import CHECKPOINT_ZIP
from google.protobuf.timestamp_pb2 import Timestamp

from aisandbox_api.default_environment import DEFAULT_ENVIRONMENT_ANNOTATION
from aisandbox_api.requests import ACTIVITIES, PHASES

_PHASES = {phase: pb.Phase.ValueType(number) for number, phase in PHASES.items()}
_ACTIVITIES = {activity.value: progress_pb.TrainerActivity.ValueType(number) for number, activity in ACTIVITIES.items()}
_ALGORITHMS: Mapping[Algorithm, pb.Algorithm.ValueType] = {
    Algorithm.PPO: pb.ALGORITHM_PPO,
    Algorithm.A2C: pb.ALGORITHM_A2C,
    Algorithm.DQN: pb.ALGORITHM_DQN,
}


def status_response(run: TrainingRun) -> pb.StatusResponse:
    """The status of the run."""
    status, progress = run.status, run.status.progress
    return pb.StatusResponse(
        timesteps_done=progress.timesteps,
        is_done=status.phase.is_done,
        last_checkpoint_path=last_checkpoint_path(run),
        run_id=run.name,
        phase=_PHASES[status.phase],
        total_timesteps=run.spec.total_timesteps,
        episode_reward_mean=progress.episode_reward_mean,
        fps=progress.fps,
        estimated_remaining_seconds=progress.estimated_remaining_seconds,
        failure=pb.Failure(reason=status.failure.reason, message=status.failure.message) if status.failure else None,
        resumed_from=_artifact(status.resumed_from),
        best_model=_artifact(status.best_model),
        latest_model=_artifact(status.latest_model),
        latest_checkpoint=_artifact(status.latest_checkpoint),
        experiment_id=run.annotations.get(EXPERIMENT_ANNOTATION, ""),
        algorithm=_ALGORITHMS[run.spec.algorithm],
        seed=run.spec.seed or 0,
        environment=_environment(run),
        restarts=status.restarts,
        timesteps_lost=status.timesteps_lost,
        activity=_ACTIVITIES.get(progress.activity, progress_pb.TRAINER_ACTIVITY_UNSPECIFIED),
        warning=progress.warning,
        evaluation_reward_mean=progress.evaluation_reward_mean,
        episode_length_mean=progress.episode_length_mean,
        create_time=_timestamp(run.creation_time),
        start_time=_timestamp(status.start_time),
        completion_time=_timestamp(status.completion_time),
    )


def last_checkpoint_path(run: TrainingRun) -> str:
    """See StatusResponse.last_checkpoint_path."""
    if run.status.phase is Phase.SUCCEEDED and run.spec.model_output_path:
        return run.spec.model_output_path
    if run.status.latest_checkpoint is None:
        return ""
    return f"runs/{run.name}/{run.status.latest_checkpoint.path}/{CHECKPOINT_ZIP}"


def _environment(run: TrainingRun) -> pb.Environment | None:
    if DEFAULT_ENVIRONMENT_ANNOTATION in run.annotations:
        return None
    environment: Environment = run.spec.environment
    message = pb.Environment()
    if isinstance(environment, GrpcEnvironment):
        message.grpc.address = environment.address
        message.grpc.environments = environment.environments
        if environment.options:
            message.grpc.options.update(dict(environment.options))
    elif isinstance(environment, GymnasiumEnvironment):
        message.gymnasium.id = environment.id
        if environment.kwargs:
            message.gymnasium.kwargs.update(dict(environment.kwargs))
    else:
        message.fake.SetInParent()
    return message


def _artifact(artifact: Artifact | None) -> progress_pb.Artifact | None:
    if artifact is None:
        return None
    return progress_pb.Artifact(
        path=artifact.path,
        timesteps=artifact.timesteps,
        digest=artifact.digest,
        reward_mean=artifact.reward_mean,
    )


def _timestamp(text: str | None) -> Timestamp | None:
    if (time := parse_time(text)) is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message
