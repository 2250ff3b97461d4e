from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from aisandbox_crds.addresses import address_problem
from aisandbox_crds.effective_values import (
    effective_checkpoint_interval,
    effective_environments,
    effective_evaluation_interval,
    effective_pool_range,
    known_environments,
)
from aisandbox_crds.errors import InvalidRun
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.output_path import normalized_output_path
from aisandbox_crds.spec import (
    Algorithm,
    DemonstrationSettings,
    Evaluation,
    FakeEnvironment,
    GrpcEnvironment,
    GymnasiumEnvironment,
    PoolEnvironment,
    StartFrom,
    StopWhen,
    TakenPart,
    TrainingRunSpec,
)
from aisandbox_crds.validation import validate_names, validate_spec
from hypothesis import given
from hypothesis import strategies as st

SPEC = TrainingRunSpec(Algorithm.PPO, 1000)


def refused_fields(**changes: Any) -> list[str]:
    with pytest.raises(InvalidRun) as caught:
        validate_spec(replace(SPEC, **changes))
    return [error.field for error in caught.value.errors]


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("total_timesteps", 1, 10**12),
        ("seed", 0, 2**32 - 1),
        ("checkpoint_every_timesteps", 0, 10**12),
        ("backoff_limit", 0, 1000),
        ("active_deadline_seconds", 1, 2**31 - 1),
        ("ttl_seconds_after_finished", 0, 2**31 - 1),
    ],
)
def test_numbers_are_taken_in_their_range_only(field: str, lowest: int, highest: int) -> None:
    for value in (lowest, highest):
        validate_spec(replace(SPEC, **cast(Any, {field: value})))
    for wrong in (lowest - 1, highest + 1, True, 1.5):
        assert refused_fields(**{field: wrong}) == [field]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"gradient_steps": "0"}, "gradient_steps"),
        ({"optimize_memory_usage": "True", "buffer_size": "5", "n_envs": "3"}, "buffer_size"),
    ],
)
def test_settings_that_would_teach_nothing_or_end_the_trainer_are_refused(said: dict[str, str], field: str) -> None:
    more = {"replay_buffer_kwargs": "dict(handle_timeout_termination=False)", **said}
    for algorithm in (Algorithm.DQN, Algorithm.TD3):
        assert refused_fields(algorithm=algorithm, hyperparameters=more) == [f"hyperparameters.{field}"]
    fitting = {**more, "gradient_steps": "-1", "learning_starts": "1000000", "buffer_size": "6"}
    validate_spec(replace(SPEC, algorithm=Algorithm.DQN, hyperparameters=fitting))


def test_evaluation_ranges() -> None:
    validate_spec(replace(SPEC, evaluation=Evaluation(0, 1)))
    validate_spec(replace(SPEC, evaluation=Evaluation(10, 10_000)))
    assert refused_fields(evaluation=Evaluation(-1, 0)) == ["evaluation.every_timesteps", "evaluation.episodes"]
    assert refused_fields(evaluation=Evaluation(0, 10_001)) == ["evaluation.episodes"]


def test_every_mistake_is_reported_at_once() -> None:
    assert refused_fields(total_timesteps=0, seed=-1, model_output_path="/x", hyperparameters={"gamma": "2"}) == [
        "total_timesteps",
        "seed",
        "model_output_path",
        "hyperparameters.gamma",
    ]


@pytest.mark.parametrize(
    "address",
    [
        "localhost:50061",
        "127.0.0.1:1",
        "sim-0.sims.default.svc.cluster.local:65535",
        "sim_0:50061",
        "[::1]:50061",
        "[fe80::1%eth0]:50061",
        "a:1,b:2,[::1]:3",
        "dns:///sims.default:50061",
        "dns:///sims:50061,a:1",
        "a:1, b:2",
        " dns:///sims:50061\n",
    ],
)
def test_addresses_are_taken(address: str) -> None:
    validate_spec(replace(SPEC, environment=GrpcEnvironment(address)))


@pytest.mark.parametrize(
    "address",
    [
        "", "localhost", "localhost:", ":50061", "localhost:0", "localhost:65536", "localhost:-1", "localhost:1e3",
        "a:1,", ",a:1", "a:1, ", "a: 1", "a b:1", "::1:50061", "[::1]", "[::g]:1", "[]:1", "256.0.0.1:1", "1.2.3:1", "http://a:1",
        "https://a:1/x", "dns://8.8.8.8/a:1", "dns:///a", "ipv4:1.2.3.4:50", "unix:/run/s", "a/b:1", "-a:1",
        "unix:50061", "XDS:443", "a:1,vsock:1",
        "a..b:1", "a\0:1", "é:1", "x" * 254 + ":1", "a:1," * 2000 + "a:1", "unix:/" + "x" * 200, "a:٣",
    ],
)  # fmt: skip
def test_addresses_are_refused(address: str) -> None:
    assert refused_fields(environment=GrpcEnvironment(address))[0] == "environment.grpc.address"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("a:1;b:2", "must separate several addresses with commas; each must be host:port"),
        ("a:1 b:2", "must separate several addresses with commas; each must be host:port"),
        ("a:1|b:2", "must separate several addresses with commas; each must be host:port"),
        ("a:1,,b:2", "has nothing between two commas or after the last one; each must be host:port"),
        ("a:1,", "has nothing between two commas or after the last one; each must be host:port"),
        ("a:1,b", "must be host:port"),
        ("", "must be host:port"),
    ],
)
def test_refusal_of_an_address_says_what_is_wrong(address: str, says: str) -> None:
    problem = address_problem(address)
    assert problem.startswith(says)
    assert "'sim-0:50061,sim-1:50061'" in problem


@given(st.text(max_size=30))
def test_validation_of_an_address_raises_nothing_else(address: str) -> None:
    with suppress(InvalidRun):
        validate_spec(replace(SPEC, environment=GrpcEnvironment(address)))
        assert ":" in address


@pytest.mark.parametrize(
    "env_id", ["CartPole-v1", "CartPole", "ALE/Pong-v5", "ale_py:ALE/Pong-v5", "my.package:My-Env-v0"]
)
def test_gymnasium_ids_are_taken(env_id: str) -> None:
    validate_spec(replace(SPEC, environment=GymnasiumEnvironment(env_id, {"render_mode": None})))


@pytest.mark.parametrize(
    "env_id", ["", "a b", "../x", "/CartPole-v1", "a/b/c", "_x:Env-v0", "x..y:Env", "a\n", "é", "x" * 201]
)
def test_gymnasium_ids_are_refused(env_id: str) -> None:
    assert refused_fields(environment=GymnasiumEnvironment(env_id)) == ["environment.gymnasium.id"]


def nested(depth: int) -> Any:
    return {} if depth == 0 else {"a": nested(depth - 1)}


@pytest.mark.parametrize("kwargs", [{"a": object()}, {"a": float("nan")}, {1: 2}, nested(40), {"a b": 1}, {"class": 1}])
def test_gymnasium_kwargs_are_refused_if_they_cannot_be_sent(kwargs: dict[str, Any]) -> None:
    assert refused_fields(environment=GymnasiumEnvironment("A-v0", kwargs)) == ["environment.gymnasium.kwargs"]


def test_simulator_options_are_refused_if_they_cannot_be_sent() -> None:
    validate_spec(replace(SPEC, environment=GrpcEnvironment("a:1", options={"any key": [1, {"a": None}]})))
    options = {"a": [float("inf")]}
    assert refused_fields(environment=GrpcEnvironment("a:1", options=options)) == ["environment.grpc.options"]


def test_a_request_too_large_for_an_environment_variable_is_refused() -> None:
    validate_spec(replace(SPEC, environment=GrpcEnvironment("a:1", options={"a": "x" * 60_000})))
    assert refused_fields(environment=GrpcEnvironment("a:1", options={"a": "x" * 70_000})) == [
        "environment.grpc.options"
    ]


@pytest.mark.parametrize(
    ("path", "normalized"),
    [
        ("./my_model.zip", "my_model.zip"),
        ("my_model", "my_model.zip"),
        ("team/a/my_model", "team/a/my_model.zip"),
        ("my_model.v1", "my_model.v1"),
        ("model.zip.zip", "model.zip.zip"),
        (".hidden", ".hidden.zip"),
        ("runs.zip", "runs.zip"),
        ("team/runs/x.zip", "team/runs/x.zip"),
        ("modèle.zip", "modèle.zip"),
    ],
)
def test_output_paths_are_taken_and_named_as_sb3_names_them(path: str, normalized: str) -> None:
    validate_spec(replace(SPEC, model_output_path=path))
    assert str(normalized_output_path(path)) == normalized


def test_no_output_path_is_none() -> None:
    assert normalized_output_path("") is None


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "//x", "../x.zip", "a/../../x.zip", "a/..", "..", ".", "./", "a/", "C:/x.zip", "C:x.zip",
        "a\\b.zip", "..\\x.zip", "\\\\host\\share", "runs", "runs/x.zip", "./runs/x.zip", "RUNS/x.zip", "runs./x.zip",
        "runs /x.zip", ".//runs/x.zip", "x.zip:stream", "a\0.zip", "a\n.zip", "nul", "a/CON.zip", "com1.zip", "x" * 300,
        "a/" * 600 + "x", "é" * 130, "\ud800.zip", "a/ ",
    ],
)  # fmt: skip
def test_output_paths_that_leave_the_root_or_are_not_portable_are_refused(path: str) -> None:
    assert refused_fields(model_output_path=path) == ["model_output_path"]


@given(st.lists(st.sampled_from(["..", ".", "", "/", "a", "runs", "\\", ":", "~", " "]), max_size=8).map("/".join))
def test_an_accepted_output_path_stays_below_the_root(path: str) -> None:
    try:
        validate_spec(replace(SPEC, model_output_path=path))
    except InvalidRun:
        return
    normalized = normalized_output_path(path)
    if path:
        assert normalized is not None
        assert not normalized.is_absolute()
        assert ".." not in normalized.parts
        assert normalized.parts[0] != "runs"


def test_the_number_of_environments_may_be_given_twice_if_it_is_equal() -> None:
    for environments, n_envs in ((4, {}), (4, {"n_envs": "4"}), (0, {"n_envs": "4"}), (0, {})):
        validate_spec(replace(SPEC, environment=GrpcEnvironment("a:1", environments), hyperparameters=n_envs))
    assert refused_fields(environment=GrpcEnvironment("a:1", 4), hyperparameters={"n_envs": "8"}) == [
        "hyperparameters.n_envs"
    ]
    assert refused_fields(environment=GrpcEnvironment("a:1", 4097)) == ["environment.grpc.environments"]


def test_each_address_has_an_environment() -> None:
    assert refused_fields(environment=GrpcEnvironment("a:1,b:1,c:1", 2)) == ["environment.grpc.environments"]
    environment = GrpcEnvironment("a:1,b:1,c:1")
    assert refused_fields(environment=environment, hyperparameters={"n_envs": "2"}) == ["hyperparameters.n_envs"]


@pytest.mark.parametrize(
    ("environment", "n_envs", "addresses", "known", "effective"),
    [
        (FakeEnvironment(), {}, 1, 1, 1),
        (GymnasiumEnvironment("A-v0"), {"n_envs": "8"}, 1, 8, 8),
        (GrpcEnvironment("a:1,b:1"), {}, 2, 2, 2),
        (GrpcEnvironment("a:1,b:1", 6), {}, 2, 6, 6),
        (GrpcEnvironment("dns:///a:1"), {}, 3, None, 3),
        (GrpcEnvironment("dns:///a:1"), {"n_envs": "6"}, 3, 6, 6),
    ],
)
def test_environments_are_the_given_number_else_n_envs_else_the_addresses(
    environment: Any, n_envs: dict[str, str], addresses: int, known: int | None, effective: int
) -> None:
    spec = replace(SPEC, environment=environment, hyperparameters=n_envs)
    parsed = parse_hyperparameters(spec.algorithm, n_envs)
    assert known_environments(spec, parsed) == known
    assert effective_environments(spec, parsed, addresses) == effective


@pytest.mark.parametrize("algorithm", [Algorithm.PPO, Algorithm.A2C, Algorithm.RECURRENTPPO])
def test_advantages_of_a_single_step_cannot_be_normalised(algorithm: Algorithm) -> None:
    said = {"n_steps": "1", "normalize_advantage": "True"}
    assert refused_fields(algorithm=algorithm, hyperparameters=said) == ["hyperparameters.n_steps"]
    validate_spec(replace(SPEC, algorithm=algorithm, hyperparameters={**said, "normalize_advantage": "False"}))
    validate_spec(replace(SPEC, algorithm=algorithm, hyperparameters={**said, "n_envs": "2"}))
    dns = GrpcEnvironment("dns:///a:1")
    validate_spec(replace(SPEC, algorithm=algorithm, hyperparameters=said, environment=dns))


def test_last_minibatch_of_one_step_is_no_reason_to_refuse_a_pool() -> None:
    """The trainer learns from one with any number of environments."""
    sizes = {"n_steps": "129", "batch_size": "128"}
    pool = PoolEnvironment("a", 4, 1)
    validate_spec(replace(SPEC, algorithm=Algorithm.RECURRENTPPO, environment=pool, hyperparameters=sizes))


def test_dqn_counts_episodes_with_one_environment_only() -> None:
    said = {"train_freq": "(1, 'episode')"}
    validate_spec(replace(SPEC, algorithm=Algorithm.DQN, hyperparameters=said))
    assert refused_fields(algorithm=Algorithm.DQN, hyperparameters={**said, "n_envs": "2"}) == [
        "hyperparameters.train_freq"
    ]
    validate_spec(replace(SPEC, algorithm=Algorithm.DQN, hyperparameters={"train_freq": "(1, 'step')", "n_envs": "2"}))


@pytest.mark.parametrize(
    ("total", "every", "expected"), [(1, 0, 1), (9, 0, 1), (1000, 0, 100), (10**9, 0, 100_000), (1000, 7, 7)]
)
def test_checkpoint_interval(total: int, every: int, expected: int) -> None:
    spec = TrainingRunSpec(Algorithm.PPO, total, checkpoint_every_timesteps=every)
    assert effective_checkpoint_interval(spec) == expected


def test_evaluation_interval_is_that_of_checkpoints_by_default() -> None:
    assert effective_evaluation_interval(SPEC) is None
    assert effective_evaluation_interval(replace(SPEC, evaluation=Evaluation())) == 100
    assert effective_evaluation_interval(replace(SPEC, evaluation=Evaluation(30))) == 30


@pytest.mark.parametrize("text", ["", " ", "x" * 129, "a\nb", "a\0"])
def test_names_of_the_client_are_printable_and_short(text: str) -> None:
    validate_names("cart pole é", None)
    validate_names("x" * 128, "y" * 128)
    with pytest.raises(InvalidRun) as caught:
        validate_names(text, text)
    assert [error.field for error in caught.value.errors] == ["experiment_id", "request_id"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"environment": GrpcEnvironment("sims:1", options={"levels": "x" * 70_000})}, "environment.grpc.options"),
        (
            {"environment": GymnasiumEnvironment("CartPole-v1", kwargs={"a": "x" * 70_000})},
            "environment.gymnasium.kwargs",
        ),
        (
            {"environment": GrpcEnvironment(",".join(f"sim-{i:05}.sims:50061" for i in range(3500)))},
            "environment.grpc.address",
        ),
    ],
)
def test_spec_that_is_too_large_names_the_field_that_makes_it_so(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRun) as caught:
        validate_spec(replace(SPEC, **changes))
    assert [error.field for error in caught.value.errors] == [field]
    if field != "environment.grpc.address":
        assert "at most 65,536 in all" in str(caught.value)


@pytest.mark.parametrize("name", ["", "Arena", "-a", "a-", "a_b", "a" * 64, "a b", "a\n"])
def test_name_of_a_pool_is_a_dns_label(name: str) -> None:
    assert refused_fields(environment=PoolEnvironment(name)) == ["environment.pool.name"]


@pytest.mark.parametrize(
    ("pool", "n_envs", "known"),
    [
        (PoolEnvironment("a"), {}, (1, 4096)),
        (PoolEnvironment("a", 8), {}, (8, 8)),
        (PoolEnvironment("a"), {"n_envs": "8"}, (8, 8)),
        (PoolEnvironment("a", 8, 2), {}, (2, 8)),
        (PoolEnvironment("a", 0, 2), {}, (2, 4096)),
        (PoolEnvironment("a" * 63, 0, 2), {"n_envs": "8"}, (2, 8)),
    ],
)
def test_pool_has_between_the_fewest_and_the_most_environments(
    pool: PoolEnvironment, n_envs: dict[str, str], known: tuple[int, int]
) -> None:
    validate_spec(replace(SPEC, environment=pool, hyperparameters=n_envs))
    assert effective_pool_range(pool, parse_hyperparameters(SPEC.algorithm, n_envs)) == known


@pytest.mark.parametrize(
    ("pool", "changes", "field"),
    [
        (PoolEnvironment("a", 2, 3), {}, "environment.pool.minimum"),
        (PoolEnvironment("a", 0, 3), {"hyperparameters": {"n_envs": "2"}}, "environment.pool.minimum"),
        (PoolEnvironment("a", 4), {"hyperparameters": {"n_envs": "2"}}, "hyperparameters.n_envs"),
        (PoolEnvironment("a", 4097), {}, "environment.pool.environments"),
        (PoolEnvironment("a", options={"a": math.nan}), {}, "environment.pool.options"),
        (
            PoolEnvironment("a", 2, 1),
            {"hyperparameters": {"n_steps": "1", "normalize_advantage": "True"}},
            "hyperparameters.n_steps",
        ),
        (
            PoolEnvironment("a"),
            {"algorithm": Algorithm.DQN, "hyperparameters": {"train_freq": "(1, 'episode')"}},
            "hyperparameters.train_freq",
        ),
        (
            PoolEnvironment("a", 4, 2),
            {"algorithm": Algorithm.DQN, "hyperparameters": {"n_steps": "3"}},
            "hyperparameters.n_steps",
        ),
    ],
)
def test_pool_is_refused_with_the_field_that_does_not_fit(
    pool: PoolEnvironment, changes: dict[str, Any], field: str
) -> None:
    assert refused_fields(environment=pool, **changes) == [field]


def test_buffer_of_several_steps_takes_a_pool_whose_number_does_not_change() -> None:
    said = {"n_steps": "3"}
    validate_spec(replace(SPEC, algorithm=Algorithm.DQN, hyperparameters=said, environment=PoolEnvironment("a", 4)))


def stopping(total: int = 100_000, evaluation: Evaluation | None = None, **more: Any) -> TrainingRunSpec:
    fields = {name: more.pop(name) for name in ("hyperparameters", "active_deadline_seconds") if name in more}
    return TrainingRunSpec(Algorithm.PPO, total, evaluation=evaluation, stop_when=StopWhen(**more), **fields)


@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        (stopping(episode_reward_mean=475), ""),
        (stopping(training_seconds=60, active_deadline_seconds=61), ""),
        (stopping(evaluation_reward_mean=-100, times_in_a_row=9, evaluation=Evaluation()), ""),
        (stopping(evaluations_without_improvement=8, evaluation=Evaluation()), ""),
        (stopping(), "stop_when: must have at least one of"),
        (stopping(training_seconds=9, times_in_a_row=2), "stop_when.times_in_a_row: counts how often"),
        (stopping(episode_reward_mean=math.nan), "stop_when.episode_reward_mean: must be finite"),
        (stopping(evaluation_reward_mean=math.inf, evaluation=Evaluation()), "evaluation_reward_mean: must be finite"),
        (stopping(episode_reward_mean=0, times_in_a_row=0), "stop_when.times_in_a_row: must be a whole number from 1"),
        (stopping(evaluation_reward_mean=1), "evaluation_reward_mean: is never reached without evaluations"),
        (stopping(evaluations_without_improvement=1), "without_improvement: is never reached without evaluations"),
        (
            stopping(evaluation_reward_mean=1, times_in_a_row=10, evaluation=Evaluation()),
            "needs 10 evaluations before the end, and there are 9, one every 10,000 of total_timesteps 100,000",
        ),
        (stopping(evaluations_without_improvement=9, evaluation=Evaluation()), "needs 10 evaluations"),
        (
            stopping(total=4096, evaluation_reward_mean=1, times_in_a_row=2, evaluation=Evaluation(100)),
            "needs 2 evaluations before the end, and there are 1, one every 2,048",
        ),
        (
            stopping(total=100, episode_reward_mean=1, times_in_a_row=2),
            "needs 101 episodes (stats_window_size=100), and total_timesteps is 100",
        ),
        (stopping(total=100, episode_reward_mean=1, hyperparameters={"stats_window_size": "5"}), ""),
        (stopping(training_seconds=60, active_deadline_seconds=60), "training_seconds: is never reached"),
    ],
)
def test_stop_that_means_nothing_or_is_never_reached_is_refused(spec: TrainingRunSpec, refused: str) -> None:
    try:
        validate_spec(spec)
        found = ""
    except InvalidRun as error:
        found = str(error)
    assert refused in found
    assert bool(refused) == bool(found)


@pytest.mark.parametrize(
    ("start", "refused"),
    [
        (StartFrom("walker-1", "best"), ""),
        (StartFrom(zip="team/a.zip"), ""),
        (StartFrom("walker-1", checkpoint="step:500", take=(TakenPart.OPTIMIZER, TakenPart.REPLAY_BUFFER)), ""),
        (StartFrom(), "start_from: must have exactly one of run and zip"),
        (StartFrom("walker-1", zip="a.zip"), "start_from: must have exactly one of run and zip"),
        (StartFrom("Walker"), "start_from.run: must be the name of a run"),
        (StartFrom("walker-1", "newest"), "start_from.model: must be latest, best, final, step:N or sha256:"),
        (StartFrom("walker-1", "best", "latest"), "start_from.checkpoint: must not be set beside model"),
        (StartFrom("walker-1", checkpoint="best"), "start_from.checkpoint: must be latest, step:N or sha256:"),
        (StartFrom("best", zip="", digest="sha256:1"), "start_from.digest: must be sha256: and 64 hexadecimal digits"),
        (StartFrom(zip="../a.zip"), "start_from.zip: must not contain '..'"),
        (StartFrom(zip="runs/walker-1/a.zip"), "start_from.zip: must not be in the folder 'runs'"),
        (StartFrom(model="best", zip="a.zip"), "start_from.model: is of a run"),
        (StartFrom("walker-1", take=(TakenPart.OPTIMIZER,)), "optimizer is a part of a checkpoint only"),
        (StartFrom(zip="a.zip", take=(TakenPart.REPLAY_BUFFER,)), "replayBuffer is a part of a checkpoint only"),
        (StartFrom(zip="a.zip", take=(TakenPart.NORMALIZATION,)), "a zip file of stable-baselines3 has no norm"),
        (StartFrom("walker-1", take=(TakenPart.NORMALIZATION,)), "normalization needs the hyperparameter normalize"),
        (StartFrom("a", checkpoint="latest", take=(TakenPart.OPTIMIZER,) * 2), "must have each part once"),
    ],
)
def test_source_that_means_nothing_is_refused(start: StartFrom, refused: str) -> None:
    try:
        validate_spec(TrainingRunSpec(Algorithm.SAC, 1000, start_from=start))
        found = ""
    except InvalidRun as error:
        found = str(error)
    assert refused in found
    assert bool(refused) == bool(found)


def test_demonstrations_are_learned_in_minibatches_that_can_be_normalized() -> None:
    one = replace(
        SPEC, algorithm=Algorithm.CROSSQ, hyperparameters={}, demonstrations=DemonstrationSettings("a", batch_size=1)
    )
    with pytest.raises(InvalidRun, match=r"demonstrations\.batch_size: must be at least 2 with CrossQ"):
        validate_spec(one)
    validate_spec(replace(one, demonstrations=DemonstrationSettings("a", batch_size=2)))
    validate_spec(replace(one, hyperparameters={"policy_kwargs": "dict(batch_norm=False)"}))
    validate_spec(replace(one, algorithm=Algorithm.SAC))


@pytest.mark.parametrize(
    ("zip_file", "file", "valid"),
    [
        ("team/w.zip", "team/d.parquet", True),
        ("team", "team-2/d.parquet", True),
        ("a.zip", "./a.zip", False),
        ("team", "team//d.parquet", False),
        ("team/a/w.zip", "team/a", False),
    ],
)
def test_demonstrations_are_another_file_than_the_zip(zip_file: str, file: str, valid: bool) -> None:
    spec = replace(SPEC, start_from=StartFrom(zip=zip_file), demonstrations=DemonstrationSettings(file))
    if valid:
        return validate_spec(spec)
    with pytest.raises(InvalidRun, match=r"demonstrations\.file: must be another file than start_from\.zip"):
        validate_spec(spec)
    return None


def test_replay_buffer_is_taken_over_by_algorithms_that_have_one() -> None:
    start = StartFrom("walker-1", checkpoint="latest", take=(TakenPart.REPLAY_BUFFER,))
    with pytest.raises(InvalidRun, match="PPO has no replay buffer; DQN, SAC"):
        validate_spec(replace(SPEC, start_from=start))


@pytest.mark.parametrize(
    ("demonstrations", "message"),
    [
        (DemonstrationSettings(""), "demonstrations.file: is required"),
        (DemonstrationSettings("/a.parquet"), "demonstrations.file: must be relative to MODELS_DIR"),
        (DemonstrationSettings("runs/a/a.parquet"), "demonstrations.file: must not be in the folder 'runs'"),
        (DemonstrationSettings("a", epochs=0), "demonstrations.epochs: must be a whole number from 1 to 10,000"),
        (DemonstrationSettings("a", batch_size=2_000_000), "demonstrations.batch_size: must be a whole number from 1"),
        (
            DemonstrationSettings("a", learning_rate=0.0),
            "demonstrations.learning_rate: must be more than 0 and at most 1",
        ),
        (DemonstrationSettings("a", learning_rate=math.nan), "demonstrations.learning_rate: must be more than 0"),
        (DemonstrationSettings("a", digest="0" * 64), "demonstrations.digest: must be sha256:"),
    ],
)
def test_demonstrations_keep_their_rules(demonstrations: DemonstrationSettings, message: str) -> None:
    validate_spec(replace(SPEC, demonstrations=DemonstrationSettings("team/a.parquet", learning_rate=1.0)))
    with pytest.raises(InvalidRun) as caught:
        validate_spec(replace(SPEC, demonstrations=demonstrations))
    assert str(caught.value).startswith(message)
