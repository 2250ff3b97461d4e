"""What the service writes into a resource, and what a refused start means."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from aisandbox_api.errors import InvalidRequest
from aisandbox_api.kubernetes.run_resources import RunResources, progress_part
from aisandbox_crds import Algorithm, TrainingRun, TrainingRunSpec
from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.status import Progress, TrainingRunStatus
from aisandbox_kubernetes.errors import status_error

BY_POLICY = "ValidatingAdmissionPolicy 'aisandbox-run-limits' with binding 'aisandbox-run-limits' denied request: "


class Refusing:
    """A client whose API server answers each creation with that status and message."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        body = {
            "reason": {403: "Forbidden"}.get(status, "Invalid"),
            "message": f'trainingruns "a" is invalid: {message}',
        }
        causes = {"details": {"causes": [{"field": field, "message": message}]}}
        self._error = status_error("POST", status, json.dumps({**body, **causes}).encode())

    async def create(self, path: str, resource: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("refusing", "expected"),
    [
        (
            Refusing(422, f"{BY_POLICY}spec.priorityClassName: high is not allowed; allowed: low"),
            ("placement.priority_class_name", "high is not allowed; allowed: low"),
        ),
        (
            Refusing(422, f"{BY_POLICY}spec.resources.limits.nvidia.com/gpu: 9 is more than 8"),
            ("placement.limits.nvidia.com/gpu", "9 is more than 8"),
        ),
        (
            Refusing(422, f"{BY_POLICY}spec.hyperparameters.n_envs: 9 is more than 8"),
            ("hyperparameters.n_envs", "9 is more than 8"),
        ),
        (
            Refusing(403, 'admission webhook "kyverno" denied the request: no Mondays'),
            ("request", 'trainingruns "a" is invalid: admission webhook "kyverno" denied the request: no Mondays'),
        ),
        (Refusing(422, "must be positive", "spec.totalTimesteps"), ("total_timesteps", "must be positive")),
    ],
)
async def test_refused_start_names_the_field_as_clients_do(refusing: Refusing, expected: tuple[str, str]) -> None:
    resources = RunResources(cast(Any, refusing), "aisandbox")
    with pytest.raises(InvalidRequest) as caught:
        await resources.create(TrainingRun("a", TrainingRunSpec(Algorithm.PPO, total_timesteps=1)))
    assert [(error.field, error.rule) for error in caught.value.errors] == [expected]


def test_written_progress_can_be_read_in_a_column() -> None:
    progress = Progress(timesteps=123_456_789, fps=1234.56789, episode_reward_mean=-0.000012345678, warning="hot")
    written = progress_part(TrainingRunStatus(progress=progress))["progress"]
    assert written == {"timesteps": 123_456_789, "fps": 1234.57, "episodeRewardMean": -1.23457e-05, "warning": "hot"}


def test_of_the_conditions_only_that_of_checkpoints_is_the_services_to_write() -> None:
    saved = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space", "T1")
    running = Condition(ConditionType.RUNNING, ConditionStatus.TRUE, "TrainerRunning")
    (written,) = progress_part(TrainingRunStatus(conditions=(running, saved)))["conditions"]
    assert (written["type"], written["status"], written["reason"]) == ("CheckpointsSaved", "False", "DiskFull")
