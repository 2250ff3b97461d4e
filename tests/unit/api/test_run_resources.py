"""What the service writes into a resource."""

from aisandbox_api.kubernetes.run_resources import progress_part
from aisandbox_crds.status import Condition, ConditionStatus, ConditionType, Progress, TrainingRunStatus


def test_written_progress_can_be_read_in_a_column() -> None:
    progress = Progress(timesteps=123_456_789, fps=1234.56789, episode_reward_mean=-0.000012345678, warning="hot")
    written = progress_part(TrainingRunStatus(progress=progress))["progress"]
    assert written == {"timesteps": 123_456_789, "fps": 1234.57, "episodeRewardMean": -1.23457e-05, "warning": "hot"}


def test_of_the_conditions_only_that_of_checkpoints_is_the_services_to_write() -> None:
    saved = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space", "T1")
    running = Condition(ConditionType.RUNNING, ConditionStatus.TRUE, "TrainerRunning")
    (written,) = progress_part(TrainingRunStatus(conditions=(running, saved)))["conditions"]
    assert (written["type"], written["status"], written["reason"]) == ("CheckpointsSaved", "False", "DiskFull")
