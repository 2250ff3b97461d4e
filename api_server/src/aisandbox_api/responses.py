"""From a run to its StatusResponse.

Owns the translation of TrainingRun to StatusResponse. Must not know backends.
"""

from __future__ import annotations

from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_crds import (
    EXPERIMENT_ANNOTATION,
    Environment,
    GrpcEnvironment,
    GymnasiumEnvironment,
    Phase,
    PoolEnvironment,
    TrainingRun,
    parse_time,
)
from aisandbox_model_store import CHECKPOINT_ZIP, RUNS_FOLDER
from aisandbox_wire import message_fields
from google.protobuf.timestamp_pb2 import Timestamp

from aisandbox_api.default_environment import DEFAULT_ENVIRONMENT_ANNOTATION
from aisandbox_api.run_owner import owner_of


def status_response(run: TrainingRun) -> pb.StatusResponse:
    """The status of the run: what status, progress and spec have under the same names, and what follows from them."""
    status, progress = run.status, run.status.progress
    known: dict[str, Any] = {}
    for source in (progress, status, run.spec):
        known |= message_fields(pb.StatusResponse, source)
    known |= {
        "run_id": run.name,
        "experiment_id": run.annotations.get(EXPERIMENT_ANNOTATION, ""),
        "environment": _environment(run),
        "owner": owner_of(run),
        "timesteps_done": progress.timesteps,
        "is_done": status.phase.is_done,
        "last_checkpoint_path": last_checkpoint_path(run),
        "create_time": _timestamp(run.creation_time),
        "start_time": _timestamp(status.start_time),
        "completion_time": _timestamp(status.completion_time),
    }
    return pb.StatusResponse(**known)


def last_checkpoint_path(run: TrainingRun) -> str:
    """See StatusResponse.last_checkpoint_path."""
    if run.status.phase is Phase.SUCCEEDED and run.spec.model_output_path:
        return run.spec.model_output_path
    if run.status.latest_checkpoint is None:
        return ""
    return f"{RUNS_FOLDER}/{run.name}/{run.status.latest_checkpoint.path}/{CHECKPOINT_ZIP}"


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
    elif isinstance(environment, PoolEnvironment):
        pool = message.pool
        pool.name, pool.environments, pool.minimum = environment.name, environment.environments, environment.minimum
        if environment.options:
            pool.options.update(dict(environment.options))
    elif isinstance(environment, GymnasiumEnvironment):
        message.gymnasium.id = environment.id
        if environment.kwargs:
            message.gymnasium.kwargs.update(dict(environment.kwargs))
    else:
        message.fake.SetInParent()
    return message


def _timestamp(text: str | None) -> Timestamp | None:
    if (time := parse_time(text)) is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message
