"""`aisandbox train` and `watch`, against a service with scripted answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_cli.main import main
from aisandbox_cli.watch import watch_training
from google.protobuf import json_format

Status = Callable[..., pb.StatusResponse]


def test_train_sends_the_options(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("StartTrainingDQN", pb.TrainingResponse(run_id="exp-1"))
    code = main(
        [
            *("train", "DQN", "--timesteps", "1e4", "--simulator", "127.0.0.1:9", "--environments", "4"),
            *("--environment-option", "level=3", "--environment-option", "mode=hard", "-p", "learning_rate=lin_3e-4"),
            *(
                "-p",
                "policy_kwargs=dict(net_arch=[64, 64])",
                "--seed",
                "7",
                "--experiment",
                "exp",
                "--output",
                "./m.zip",
            ),
            *("--request-id", "r1", "--evaluate-every", "1000", "--checkpoint-every", "5_000", "--detach"),
            *("--stop-when", "evaluation_reward_mean=-1.5", "--stop-when", "times-in-a-row=3"),
            *("--demonstrations", "team/a.parquet", "--cloning", "epochs=20", "--cloning", "learning-rate=1e-4"),
        ]
    )
    request = service.requests("StartTrainingDQN")[0]
    assert code == 0
    assert capsys.readouterr().out == "exp-1\n"
    assert request.algorithm == pb.ALGORITHM_DQN
    assert (request.total_timesteps, request.seed, request.checkpoint_every_timesteps) == (10_000, 7, 5_000)
    assert (request.experiment_id, request.model_output_path, request.request_id) == ("exp", "./m.zip", "r1")
    assert dict(request.hyperparameters) == {
        "learning_rate": "lin_3e-4",
        "policy_kwargs": "dict(net_arch=[64, 64])",
    }
    assert (request.environment.grpc.address, request.environment.grpc.environments) == ("127.0.0.1:9", 4)
    assert dict(request.environment.grpc.options) == {"level": 3.0, "mode": "hard"}
    assert request.evaluation.every_timesteps == 1000
    assert request.demonstrations == pb.Demonstrations(file="team/a.parquet", epochs=20, learning_rate=1e-4)
    assert request.stop_when == pb.StopWhen(evaluation_reward_mean=-1.5, times_in_a_row=3)


def test_train_sends_where_the_trainer_is_to_run(service: Any, tmp_path: Path) -> None:
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-1"))
    file = tmp_path / "template.json"
    file.write_text('{"metadata": {"annotations": {"a": "b"}}}')
    options = [
        *("--requests", "cpu=2,memory=4Gi", "--limits", "nvidia.com/gpu=1", "--queue", "gpus"),
        *("--priority-class", "night", "--label", "team=games", "--node-selector", "accelerator=nvidia"),
        *("--toleration", "gpu", "--toleration", "spot=yes:NoSchedule", "--toleration", "a:NoExecute"),
        *("--pod-template", f"@{file}"),
    ]
    assert main(["train", "ppo", "--detach", *options]) == 0
    placement = service.requests("StartTrainingPPO")[0].placement
    assert dict(placement.requests) == {"cpu": "2", "memory": "4Gi"}
    assert dict(placement.limits) == {"nvidia.com/gpu": "1"}
    assert (placement.queue, placement.priority_class_name) == ("gpus", "night")
    assert (dict(placement.labels), dict(placement.node_selector)) == ({"team": "games"}, {"accelerator": "nvidia"})
    assert list(placement.tolerations) == [
        pb.Toleration(key="gpu", operator="Exists"),
        pb.Toleration(key="spot", operator="Equal", value="yes", effect="NoSchedule"),
        pb.Toleration(key="a", operator="Exists", effect="NoExecute"),
    ]
    assert json_format.MessageToDict(placement.pod_template) == {"metadata": {"annotations": {"a": "b"}}}


def test_train_omits_options_that_were_not_given(service: Any) -> None:
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-1"))
    assert main(["train", "ppo", "--detach"]) == 0
    request = service.requests("StartTrainingPPO")[0]
    assert not request.HasField("seed")
    assert not request.HasField("environment")
    assert not request.HasField("evaluation")
    assert not request.HasField("placement")
    assert request.experiment_id == "ppo-default"
    assert str(uuid.UUID(request.request_id)) == request.request_id


@pytest.mark.parametrize(("phase", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_train_exits_with_zero_only_for_success(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str], phase: str, code: int
) -> None:
    failure = pb.Failure(reason="SimulatorUnreachable", message="nobody at 127.0.0.1:9") if phase == "FAILED" else None
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-1"))
    service.says("WatchTraining", [status("STARTING", 0), status(), status(phase, failure=failure)])
    assert main(["train", "ppo"]) == code
    out = capsys.readouterr().out
    assert "500/1,000 (50%)" in out
    assert phase.capitalize() in out
    assert ("SimulatorUnreachable: nobody at 127.0.0.1:9" in out) == (phase == "FAILED")


def test_train_with_json_prints_messages_and_nothing_else(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-1"))
    service.says("WatchTraining", [status(), status("SUCCEEDED", 1000)])
    assert main(["train", "ppo", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"runId": "exp-1"}
    assert [line["timestepsDone"] for line in lines[1:]] == ["500", "1000"]
    assert [line["isDone"] for line in lines[1:]] == [False, True]


def test_train_retries_the_start_with_the_same_request_id(service: Any) -> None:
    busy = service.refusal(grpc.StatusCode.UNAVAILABLE, "starting")
    service.says("StartTrainingPPO", busy, busy, pb.TrainingResponse(run_id="exp-1"))
    assert main(["train", "ppo", "--detach"]) == 0
    requests = service.requests("StartTrainingPPO")
    assert len(requests) == 3
    assert len({request.request_id for request in requests}) == 1


def test_train_prints_the_field_and_the_rule(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says(
        "StartTrainingPPO",
        service.refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "2 fields",
            hyperparameters__gama="unknown; did you mean gamma?",
            total_timesteps="must be at least 1",
        ),
    )
    assert main(["train", "ppo", "-p", "gama=1", "-t", "0"]) == 2
    err = capsys.readouterr().err
    assert "hyperparameters.gama: unknown; did you mean gamma?; total_timesteps: must be at least 1" in err
    assert len(err.splitlines()) == 1


def test_train_asks_for_a_pool(service: Any) -> None:
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-1"))
    options = ["--environments", "8", "--minimum", "2", "--environment-option", "level=3"]
    assert main(["train", "ppo", "--detach", "--pool", "arena", *options]) == 0
    (request,) = service.requests("StartTrainingPPO")
    pool = request.environment.pool
    assert (pool.name, pool.environments, pool.minimum) == ("arena", 8, 2)
    assert dict(pool.options) == {"level": 3.0}
    assert request.experiment_id == "ppo-arena"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--simulator", "a:1", "--gymnasium", "X-v0"], "only one of them"),
        (["-p", "gamma"], "must be KEY=VALUE"),
        (["-p", "gamma=1", "-p", "gamma=2"], "given twice"),
        (["--environments", "2"], "only with --simulator"),
        (["--environment-option", "a=1"], "only with --simulator, --pool or --gymnasium"),
        (["--simulator", "a:1", "--pool", "a"], "--simulator and --pool: use only one of them"),
        (["--simulator", "a:1", "--minimum", "2"], "only with --pool"),
        (["--timesteps", "many"], "not a whole number"),
        (["--timesteps", "1e300"], "too large"),
        (["--timesteps", "inf"], "not a whole number"),
        (["--address", "nowhere"], "must be HOST:PORT"),
        (["--requests", "cpu"], "must be KEY=VALUE"),
        (["--toleration", ":NoSchedule"], "must be KEY, KEY:EFFECT"),
        (["--pod-template", "[]"], "must be a JSON object"),
        (["--cloning", "epochs=2"], "--cloning: only with --demonstrations"),
        (["--demonstrations", "a", "--cloning", "steps=2"], "must be one of epochs, batch_size, learning_rate"),
        (["--demonstrations", "a", "--cloning", "epochs=0"], "--cloning epochs=0: must be more than 0"),
        (["--demonstrations", "a", "--cloning", "batch-size=0"], "--cloning batch-size=0: must be more than 0"),
        (["--pod-template", "{"], "is not JSON"),
        (["--pod-template", "@/does/not/exist"], "cannot be read"),
    ],
)
def test_train_refuses_wrong_usage_without_a_call(
    service: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], rule: str
) -> None:
    assert main(["train", "ppo", *arguments]) == 2
    assert rule in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert service.received == []


def test_train_reports_that_no_service_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppo"]) == 3
    err = capsys.readouterr().err
    assert "127.0.0.1:1 does not answer" in err
    assert "aisandbox up" in err


def test_watch_continues_after_the_connection_was_lost(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = service.refusal(grpc.StatusCode.UNAVAILABLE, "going down")
    service.says("WatchTraining", [status(), gone], [gone], [status("SUCCEEDED", 1000)])
    assert main(["watch", "exp-1"]) == 0
    out = capsys.readouterr().out
    assert out.count("connection to the service lost (going down)") == 1
    assert out.index("Running") < out.index("connection") < out.index("Succeeded")


def test_watch_prints_once_how_to_resume_a_suspended_run(
    service: Any, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    suspended = status("SUSPENDED")
    service.says("WatchTraining", [status(), suspended, suspended, status("SUCCEEDED", 1000)])
    assert main(["watch", "exp-1"]) == 0
    hints = [line for line in capsys.readouterr().out.splitlines() if "suspended until" in line]
    assert len(hints) == 1
    assert hints[0].endswith("aisandbox resume exp-1")


def test_watch_ends_when_the_run_is_unknown(service: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.says("WatchTraining", [service.refusal(grpc.StatusCode.NOT_FOUND, "run 'x' does not exist")])
    assert main(["watch", "x"]) == 1
    assert "run 'x' does not exist (NOT_FOUND)" in capsys.readouterr().err


def test_watch_gives_up_after_the_limit(service: Any) -> None:
    gone = service.refusal(grpc.StatusCode.UNAVAILABLE, "going down")
    service.says("WatchTraining", [gone], [gone], [gone])
    now = iter([0.0, 5.0, 11.0])
    from aisandbox_cli.connection import connect
    from aisandbox_cli.errors import Unavailable

    with pytest.raises(Unavailable), connect(None) as connection:
        for _ in watch_training(
            connection.stub, "exp-1", give_up_after=10, clock=lambda: next(now), sleep=lambda _seconds: None
        ):
            pass
    assert len(service.requests("WatchTraining")) == 3


def test_interrupted_watch_does_not_cancel_the_run_and_prints_the_next_steps(
    service: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aisandbox_cli.progress.watch_training", interrupt)
    assert main(["watch", "exp-1", "--address", service.address]) == 130
    err = capsys.readouterr().err
    assert "the training continues" in err
    assert "aisandbox suspend exp-1" in err
    assert "aisandbox cancel exp-1" in err
    assert service.received == []


def test_train_starts_an_algorithm_without_a_call_of_its_own_by_the_common_one(service: Any) -> None:
    service.says("StartTraining", pb.TrainingResponse(run_id="exp-1"))
    assert main(["train", "sac", "--detach"]) == 0
    (request,) = service.requests("StartTraining")
    assert request.algorithm == pb.ALGORITHM_SAC


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("reward=1", "--stop-when reward: must be one of episode_reward_mean, evaluation_reward_mean"),
        ("episode_reward_mean=high", "--stop-when episode_reward_mean=high: must be a number"),
        ("times_in_a_row=-1", "--stop-when times_in_a_row=-1: must be a number"),
        ("times_in_a_row=0", "--stop-when times_in_a_row=0: must be more than 0"),
    ],
)
def test_train_names_a_rule_that_it_cannot_send(
    service: Any, rule: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ppo", "--stop-when", rule]) == 2
    assert message in capsys.readouterr().err


LESSONS = """
- name: near
  parameters: {distance: {uniform: [1, 2]}}
  until: {reward: 0.5, overEpisodes: 20}
- name: far
"""


@pytest.mark.parametrize(
    "text",
    [LESSONS, "lessons:" + LESSONS, json.dumps(yaml.safe_load(LESSONS)).replace("overEpisodes", "over_episodes")],
)
def test_train_reads_lessons_from_yaml_and_json(service: Any, tmp_path: Path, text: str) -> None:
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-1"))
    file = tmp_path / "lessons.yaml"
    file.write_text(text)
    assert main(["train", "ppo", "--lessons", str(file), "--detach"]) == 0
    near, far = service.requests("StartTrainingPPO")[0].lessons
    assert json_format.MessageToDict(near.parameters) == {"distance": {"uniform": [1, 2]}}
    assert (near.until.reward, near.until.over_episodes, far.name) == (0.5, 20, "far")
    assert not far.HasField("until")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("- [", "is neither YAML nor JSON"),
        ("5", "must be a list of lessons"),
        ("[]", "must be a list of lessons"),
        ("- {name: a, when: {}}", 'no field named "when"'),
        ("- {name: a, until: {episodes: many}}", "episodes"),
        ("- " + "x" * 300_000, "has more than 262,144 bytes"),
    ],
)
def test_train_says_what_is_wrong_with_a_file_of_lessons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, says: str
) -> None:
    file = tmp_path / "lessons.yaml"
    if text is not None:
        file.write_text(text)
    assert main(["train", "ppo", "--lessons", str(file)]) == 2
    error = capsys.readouterr().err
    assert "--lessons" in error
    assert says in error


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (["--start-from", "exp-1"], pb.StartFrom(run="exp-1")),
        (["--start-from", "exp-1:best"], pb.StartFrom(run="exp-1", model="best")),
        (["--start-from", "exp-1:step:500"], pb.StartFrom(run="exp-1", model="step:500")),
        (
            ["--start-from", "exp-1:checkpoint", "--take", "replay-buffer", "--take", "optimizer"],
            pb.StartFrom(run="exp-1", checkpoint="latest", take=[pb.TAKEN_PART_REPLAY_BUFFER, pb.TAKEN_PART_OPTIMIZER]),
        ),
        (["--start-from", "exp-1:checkpoint:500"], pb.StartFrom(run="exp-1", checkpoint="step:500")),
        (["--start-from", "team/a.zip"], pb.StartFrom(zip="team/a.zip")),
    ],
)
def test_train_sends_what_a_run_starts_from(service: Any, options: list[str], sent: pb.StartFrom) -> None:
    service.says("StartTrainingPPO", pb.TrainingResponse(run_id="exp-2"))
    assert main(["train", "ppo", "--detach", *options]) == 0
    assert service.requests("StartTrainingPPO")[0].start_from == sent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--take", "optimizer"], "--take: only with --start-from"),
        (["--start-from", "exp-1", "--take", "all"], "--take all: must be one of normalization, optimizer"),
    ],
)
def test_train_names_a_part_that_it_cannot_send(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ppo", *options]) == 2
    assert message in capsys.readouterr().err
