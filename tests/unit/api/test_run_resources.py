"""What the service writes into a resource."""

from aisandbox_api.kubernetes.run_resources import progress_part
from aisandbox_crds.status import Progress, TrainingRunStatus


def test_written_progress_can_be_read_in_a_column() -> None:
    progress = Progress(timesteps=123_456_789, fps=1234.56789, episode_reward_mean=-0.000012345678, warning="hot")
    written = progress_part(TrainingRunStatus(progress=progress))["progress"]
    assert written == {"timesteps": 123_456_789, "fps": 1234.57, "episodeRewardMean": -1.23457e-05, "warning": "hot"}
