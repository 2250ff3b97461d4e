from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import training_progress_pb2 as progress_pb
from aisandbox_access import OWNER_ANNOTATION
from aisandbox_api.default_environment import DEFAULT_ENVIRONMENT_ANNOTATION, environment_to_train
from aisandbox_api.errors import FailedPrecondition, InvalidRequest
from aisandbox_api.other_runs_checks import check_output
from aisandbox_api.requests import LARGEST_START, list_query, new_run, page_token, progress_report
from aisandbox_api.responses import last_checkpoint_path, status_response
from aisandbox_crds import Lesson, LessonEnd
from aisandbox_crds.pod_template import PodMetadata, PodSpec, PodTemplate
from aisandbox_crds.spec import Algorithm, Evaluation, FakeEnvironment, GrpcEnvironment, GymnasiumEnvironment
from aisandbox_crds.status import Phase
from aisandbox_crds.status_values import Activity, Artifact
from aisandbox_crds.trainingrun import EXPERIMENT_ANNOTATION, REQUEST_DIGEST_ANNOTATION, TrainingRun
from aisandbox_model_store import RunStore
from aisandbox_wire import ALGORITHM_NAMES
from google.protobuf import struct_pb2


def made(algorithm: Algorithm = Algorithm.PPO, default: str = "fake", **fields: Any) -> TrainingRun:
    request = pb.TrainingRequest(**{"experiment_id": "Lander 1", "total_timesteps": 100, **fields})
    return new_run(request, algorithm, default, Random(1))


def struct(**values: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def test_request_becomes_a_spec_with_nothing_filled_in_but_the_seed() -> None:
    run = made(Algorithm.DQN, hyperparameters={"gamma": "0.9"}, seed=0, evaluation=pb.Evaluation())
    assert (run.spec.algorithm, run.spec.total_timesteps, run.spec.seed) == (Algorithm.DQN, 100, 0)
    assert run.spec.hyperparameters == {"gamma": "0.9"}
    assert run.spec.evaluation == Evaluation(0, 10, False)
    assert run.annotations[EXPERIMENT_ANNOTATION] == "Lander 1"
    assert run.name.startswith("lander-1-")


def test_lessons_become_those_of_the_spec() -> None:
    first = pb.Lesson(name="near", until=pb.LessonEnd(reward=0.0, over_episodes=3))
    first.parameters.update({"distance": {"uniform": [1, 2]}})
    run = made(lessons=[first, pb.Lesson(name="far")])
    until = LessonEnd(reward=0.0, over_episodes=3)
    assert run.spec.lessons == (Lesson("near", {"distance": {"uniform": [1, 2]}}, until), Lesson("far"))
    with pytest.raises(InvalidRequest) as refused:
        made(lessons=[pb.Lesson(name="near", until=pb.LessonEnd(episodes=0)), pb.Lesson(name="far")])
    assert [error.field for error in refused.value.errors] == ["lessons[0].until.episodes"]
    with pytest.raises(InvalidRequest) as refused:
        made(lessons=[pb.Lesson()] * 100_000)
    assert str(refused.value) == "lessons: has 100000 entries; at most 32"


def test_every_algorithm_of_the_contract_may_be_asked_for() -> None:
    for number, name in ALGORITHM_NAMES.items():
        request = pb.TrainingRequest(experiment_id="e", total_timesteps=1, algorithm=number)  # type: ignore[arg-type]
        assert new_run(request, None, "fake", Random(1)).spec.algorithm == name
        assert new_run(request, Algorithm(name), "fake", Random(1)).spec.algorithm == name


@pytest.mark.parametrize(
    ("number", "named", "rule"),
    [
        (0, None, "must be one of PPO, A2C, "),
        (99, None, "got 99"),
        (99, Algorithm.PPO, "got 99"),
        (pb.ALGORITHM_SAC, Algorithm.DQN, "is SAC, and the call starts DQN"),
    ],
)
def test_algorithm_that_is_not_known_or_another_one_is_refused(number: int, named: Algorithm | None, rule: str) -> None:
    request = pb.TrainingRequest(experiment_id="e", total_timesteps=1, algorithm=number)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        new_run(request, named, "fake", Random(1))
    (error,) = caught.value.errors
    assert (error.field, rule in error.rule) == ("algorithm", True)


def test_struct_becomes_keywords_with_whole_numbers_as_ints() -> None:
    environment = pb.Environment(gymnasium=pb.GymnasiumEnvironment(id="CartPole-v1"))
    values: dict[str, Any] = {"steps": 500, "mass": 0.5, "deep": {"list": [1, True, None, "x"]}, "huge": 1e300}
    environment.gymnasium.kwargs.update(values)
    spec = made(environment=environment).spec
    assert spec.environment == GymnasiumEnvironment("CartPole-v1", values)
    assert isinstance(spec.environment, GymnasiumEnvironment)
    assert isinstance(spec.environment.kwargs["steps"], int)


def test_placement_becomes_fields_of_the_spec() -> None:
    placement = pb.Placement(
        requests={"cpu": "2", "memory": "4Gi"},
        limits={"nvidia.com/gpu": "1"},
        queue="gpus",
        priority_class_name="night",
        labels={"team": "games"},
        node_selector={"accelerator": "nvidia"},
        tolerations=[
            pb.Toleration(key="gpu", operator="Exists"),
            pb.Toleration(key="a", value="b", effect="NoExecute", toleration_seconds=0),
        ],
    )
    placement.pod_template.update(
        {"metadata": {"annotations": {"a": "b"}}, "spec": {"securityContext": {"runAsUser": 1000}}}
    )
    spec = made(placement=placement).spec
    assert spec.resources == {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"nvidia.com/gpu": "1"}}
    assert spec.labels == {"team": "games", "kueue.x-k8s.io/queue-name": "gpus"}
    assert (spec.priority_class_name, spec.node_selector) == ("night", {"accelerator": "nvidia"})
    assert spec.tolerations == (
        {"key": "gpu", "operator": "Exists"},
        {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 0},
    )
    template = PodTemplate(PodMetadata(annotations={"a": "b"}), PodSpec(security_context={"runAsUser": 1000}))
    assert spec.pod_template == template


def test_request_without_a_placement_is_that_of_before() -> None:
    assert made(placement=pb.Placement()).annotations == made().annotations
    assert made(placement=pb.Placement(queue="a")).annotations != made().annotations


@pytest.mark.parametrize(
    ("placement", "field"),
    [
        (pb.Placement(requests={"cpu": "two"}), "placement.requests.cpu"),
        (pb.Placement(limits={"a b": "1"}), "placement.limits"),
        (pb.Placement(requests={"cpu": "2"}, limits={"cpu": "1"}), "placement.requests.cpu"),
        (pb.Placement(queue="a b"), "placement.labels"),
        (pb.Placement(queue="a", labels={"kueue.x-k8s.io/queue-name": "b"}), "placement.queue"),
        (pb.Placement(labels={"aisandbox.dev/run": "x"}), "placement.labels"),
        (pb.Placement(node_selector={"a": "b c"}), "placement.node_selector"),
        (pb.Placement(tolerations=[pb.Toleration(value="x")]), "placement.tolerations[0]"),
        (pb.Placement(priority_class_name="A"), "placement.priority_class_name"),
        (pb.Placement(pod_template=struct(hostNetwork=True)), "placement.pod_template.hostNetwork"),
        (
            pb.Placement(pod_template=struct(spec={"runtimeClassName": "A"})),
            "placement.pod_template.spec.runtime_class_name",
        ),
        (
            pb.Placement(pod_template=struct(spec={"affinity": {"x": float("nan")}})),
            "placement.pod_template.spec.affinity.x",
        ),
    ],
)
def test_placement_that_breaks_a_rule_is_refused_by_name(placement: pb.Placement, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        made(placement=placement)
    assert [error.field for error in refused.value.errors] == [field]


@pytest.mark.parametrize("address", ["a:1, b:2", " a:1,b:2", "a:1 ,b:2\n", "a:1,\tb:2 "])
def test_blanks_around_addresses_are_no_part_of_them(address: str) -> None:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=address))
    assert made(environment=environment).spec.environment == GrpcEnvironment("a:1,b:2")


@pytest.mark.parametrize("address", ["a:1;b:2", "a:1 b:2", "a:1,,b:2", "a:1,"])
def test_addresses_that_are_not_separated_by_commas_are_refused_with_the_form(address: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        made(environment=pb.Environment(grpc=pb.GrpcEnvironment(address=address)))
    (error,) = refused.value.errors
    assert error.field == "environment.grpc.address"
    assert "got '" in error.rule


def grpc_options(size: int) -> pb.Environment:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address="a:1"))
    environment.grpc.options.update({"map": "x" * size, "seed": 1})
    return environment


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("environment.grpc.options", {"environment": grpc_options(LARGEST_START)}),
        ("hyperparameters", {"hyperparameters": {"a" * 200_000: "b" * 80_000}, "environment": grpc_options(10_000)}),
        ("environment.grpc.address", {"environment": pb.Environment(grpc=pb.GrpcEnvironment(address="a" * 300_000))}),
        ("model_output_path", {"model_output_path": "ä" * 200_000, "request_id": "r" * 1000}),
    ],
)
def test_request_that_is_too_large_is_refused_with_its_largest_field(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        made(**fields)
    (error,) = refused.value.errors
    assert error.field == field
    assert error.rule.endswith("bytes of the request; at most 262,144 in all")


def test_request_with_many_entries_of_one_field_is_refused_with_it() -> None:
    placement = pb.Placement(tolerations=[pb.Toleration(key="k" * 60, value="v" * 60)] * 3000)
    with pytest.raises(InvalidRequest) as refused:
        made(placement=placement, hyperparameters={"learning_rate": "1e-3"})
    (error,) = refused.value.errors
    assert error.field == "placement.tolerations"


@pytest.mark.parametrize(("field", "parents"), [("request", ""), ("environment", "environment")])
def test_request_of_fields_that_are_not_known_is_refused_for_its_size(field: str, parents: str) -> None:
    unknown = b"\xc2\x3e\x80\x80\x10" + bytes(LARGEST_START)  # field 1000: its tag, its length, its bytes
    request = pb.TrainingRequest()
    (request.environment if parents else request).MergeFromString(unknown)
    with pytest.raises(InvalidRequest) as refused:
        new_run(request, Algorithm.PPO, "fake", Random(1))
    (error,) = refused.value.errors
    assert error.field == field


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_struct_with_a_number_json_cannot_say_is_refused_by_name(number: float) -> None:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address="127.0.0.1:5"))
    environment.grpc.options["level"] = number
    with pytest.raises(InvalidRequest, match=r"environment\.grpc\.options\.level"):
        made(environment=environment)


def test_digest_distinguishes_requests_and_ignores_the_chosen_seed() -> None:
    def digest(**fields: Any) -> str:
        return made(**fields).annotations[REQUEST_DIGEST_ANNOTATION]

    first = pb.TrainingRequest(experiment_id="Lander 1", total_timesteps=100)
    other_seed = new_run(first, Algorithm.PPO, "fake", Random(2))
    assert other_seed.spec.seed != made().spec.seed
    assert other_seed.annotations[REQUEST_DIGEST_ANNOTATION] == digest()
    fake = pb.Environment(fake=pb.FakeEnvironment())
    others: list[dict[str, Any]] = [
        {"total_timesteps": 101},
        {"seed": 1},
        {"model_output_path": "a.zip"},
        {"environment": fake},
    ]
    assert len({digest(), *(digest(**fields) for fields in others)}) == 5
    on_an_adapter = new_run(first, Algorithm.PPO, "adapter", Random(1))
    assert on_an_adapter.annotations[REQUEST_DIGEST_ANNOTATION] == digest(), "what the default is may change"


@pytest.mark.parametrize(
    ("asked", "written"), [("m", "m.zip"), ("./a/m", "a/m.zip"), ("./m.zip", "./m.zip"), ("m.v2", "m.v2"), ("", "")]
)
def test_output_path_is_the_one_of_the_file_that_will_be_there(asked: str, written: str) -> None:
    run = made(model_output_path=asked)
    assert run.spec.model_output_path == written
    done = replace(run, status=replace(run.status, phase=Phase.SUCCEEDED))
    assert last_checkpoint_path(done) == written


def test_output_path_that_an_unfinished_run_writes_is_refused_however_it_is_written(tmp_path: Path) -> None:
    others = [replace(made(model_output_path="m"), name="another")]
    with pytest.raises(FailedPrecondition, match="another"):
        check_output(made(model_output_path="./m.zip"), others, RunStore(tmp_path))


def test_output_path_of_an_unfinished_run_of_another_owner_does_not_name_the_run(tmp_path: Path) -> None:
    others = [replace(made(model_output_path="m"), name="secret", annotations={OWNER_ANNOTATION: "alice"})]
    with pytest.raises(FailedPrecondition, match="a run of another owner, which has not ended") as refused:
        check_output(made(model_output_path="m"), others, RunStore(tmp_path))
    assert "secret" not in str(refused.value)


def test_output_path_of_the_same_start_taken_by_another_replica_is_its_own(tmp_path: Path) -> None:
    run = made(model_output_path="m", request_id="r1")
    check_output(run, [replace(run, uid="there already")], RunStore(tmp_path))


def test_request_that_is_too_large_is_refused_without_being_read() -> None:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address="127.0.0.1:5"))
    environment.grpc.options.update({"level": "x" * 50_000})
    assert made(environment=environment).spec.environment == GrpcEnvironment("127.0.0.1:5", 0, {"level": "x" * 50_000})
    environment.grpc.options.update({"level": "x" * 262_144, "not a number": float("nan")})
    with pytest.raises(InvalidRequest, match=r"environment\.grpc\.options: .* at most 262,144 in all") as refusal:
        made(environment=environment)
    assert [error.field for error in refusal.value.errors] == ["environment.grpc.options"]


def test_output_path_that_is_too_long_with_its_suffix_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="model_output_path"):
        made(model_output_path="a/" * 511 + "mm")


def test_environment_that_was_not_named_is_resolved_when_a_trainer_is_started() -> None:
    plain, adapted = made(), made(default="adapter")
    assert plain.annotations[DEFAULT_ENVIRONMENT_ANNOTATION] == "fake"
    assert environment_to_train(plain, "127.0.0.1:7") == FakeEnvironment()
    assert environment_to_train(adapted, "127.0.0.1:7") == GrpcEnvironment("127.0.0.1:7")
    with pytest.raises(FailedPrecondition, match="adapter_factory"):
        environment_to_train(adapted, None)


def test_environment_that_was_named_stays_whatever_the_service_has() -> None:
    fake = made(default="adapter", environment=pb.Environment(fake=pb.FakeEnvironment()))
    assert environment_to_train(fake, "127.0.0.1:7") == FakeEnvironment()
    assert status_response(fake).environment.WhichOneof("kind") == "fake"


def test_status_has_the_environment_as_it_was_requested() -> None:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address="127.0.0.1:5", environments=4))
    environment.grpc.options.update({"level": 3, "wind": {"speed": 0.5}})
    assert status_response(made(environment=environment)).environment == environment
    pool = pb.Environment(pool=pb.PoolEnvironment(name="arena", environments=4, minimum=2))
    pool.pool.options.update({"level": 3})
    assert status_response(made(environment=pool)).environment == pool
    assert not status_response(made()).HasField("environment")


def test_last_checkpoint_path_names_the_zip(run: TrainingRun) -> None:
    assert last_checkpoint_path(run) == ""
    status = type(run.status)(latest_checkpoint=Artifact("checkpoints/20", 20, "sha256:1"))
    saved = TrainingRun(run.name, run.spec, status)
    assert last_checkpoint_path(saved) == "runs/lander-b/checkpoints/20/model.zip"


def test_report_keeps_what_is_absent_apart_from_zero() -> None:
    message = progress_pb.ReportRequest(
        run_id="r", attempt=2, timesteps=5, episode_reward_mean=0.0, activity=progress_pb.TRAINER_ACTIVITY_EVALUATING
    )
    message.best_model.path = "models/5"
    report = progress_report(message)
    assert (report.episode_reward_mean, report.episode_length_mean) == (0.0, None)
    assert (report.attempt, report.activity) == (2, Activity.EVALUATING)
    assert report.best_model == Artifact("models/5", 0, "")
    assert report.latest_model is None


def test_page_token_leads_back_to_its_run(run: TrainingRun) -> None:
    query = list_query(pb.ListTrainingRunsRequest(page_token=page_token(run)))
    assert (query.after, query.page_size) == ((run.creation_time, run.name), 100)
