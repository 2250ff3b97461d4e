"""Dataclasses as messages and back."""

from dataclasses import dataclass
from enum import StrEnum

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_wire.dataclass_messages import dataclass_of, enumerators, message_fields


class Doing(StrEnum):
    STARTING = "Starting"
    WAITING_FOR_SIMULATOR = "WaitingForSimulator"
    SLEEPING = "Sleeping"


@dataclass(frozen=True)
class Made:
    path: str
    timesteps: int
    digest: str = ""
    reward_mean: float | None = None
    only_here: int = 5


@dataclass(frozen=True)
class Snapshot:
    attempt: int
    timesteps: int
    activity: Doing = Doing.STARTING
    fps: float = 0.0
    episode_reward_mean: float | None = None
    latest_model: Made | None = None
    best_model: Made | None = None
    warning: str = ""
    only_here: str = "x"


FULL = Snapshot(
    attempt=2,
    timesteps=400,
    activity=Doing.WAITING_FOR_SIMULATOR,
    fps=2.5,
    episode_reward_mean=0.0,
    latest_model=Made("models/1", 100, "sha256:1", -1.5),
    warning="slow",
)


def test_dataclass_is_the_same_after_a_trip_through_a_message() -> None:
    message = progress_pb.ReportRequest(run_id="run-1", **message_fields(progress_pb.ReportRequest, FULL))
    assert dataclass_of(Snapshot, progress_pb.ReportRequest.FromString(message.SerializeToString())) == FULL


def test_message_has_the_fields_of_the_same_name_and_leaves_none_out() -> None:
    message = progress_pb.ReportRequest(**message_fields(progress_pb.ReportRequest, FULL))
    assert (message.attempt, message.activity) == (2, progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR)
    assert message.HasField("episode_reward_mean"), "a measured zero is not an absent value"
    assert not message.HasField("episode_length_mean")
    assert (message.latest_model.path, message.latest_model.reward_mean) == ("models/1", -1.5)
    assert not message.HasField("best_model")


def test_enumerator_that_the_other_side_lacks_is_left_out() -> None:
    asleep = message_fields(progress_pb.ReportRequest, Snapshot(1, 2, Doing.SLEEPING))
    assert "activity" not in asleep
    evaluating = progress_pb.ReportRequest(activity=progress_pb.TRAINER_ACTIVITY_EVALUATING)
    assert dataclass_of(Snapshot, evaluating).activity is Doing.STARTING, "the default of the dataclass"
    unknown = progress_pb.ReportRequest(activity=progress_pb.TrainerActivity.ValueType(99))
    assert dataclass_of(Snapshot, unknown).activity is Doing.STARTING


def test_text_is_written_as_the_enumerator_of_the_same_words() -> None:
    @dataclass(frozen=True)
    class Plain:
        activity: str = ""

    fields = message_fields(pb.StatusResponse, Plain("WaitingForSimulator"))
    assert fields == {"activity": progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR}
    assert message_fields(pb.StatusResponse, Plain("")) == message_fields(pb.StatusResponse, Plain("Flying")) == {}


def test_members_are_found_by_the_numbers_of_the_message() -> None:
    known = enumerators(Doing, progress_pb.TrainerActivity.DESCRIPTOR)
    assert known == {
        progress_pb.TRAINER_ACTIVITY_STARTING: Doing.STARTING,
        progress_pb.TRAINER_ACTIVITY_WAITING_FOR_SIMULATOR: Doing.WAITING_FOR_SIMULATOR,
    }
