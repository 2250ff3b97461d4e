"""What a start call and the trainer refuse when the spaces are known."""

from __future__ import annotations

import pytest
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.space_rules import DeclaredLeaf, DeclaredSpace, actions_problem, fitting_policy, space_errors
from aisandbox_crds.spec import Algorithm

PPO, DQN, SAC = Algorithm.PPO, Algorithm.DQN, Algorithm.SAC


def leaf(key: str, kind: str = "box", shape: tuple[int, ...] = (3,), dtype: str = "float32") -> DeclaredLeaf:
    return DeclaredLeaf(key, kind, dtype, shape, has_pixel_bounds=dtype == "uint8")


def dictionary(*leaves: DeclaredLeaf) -> DeclaredSpace:
    return DeclaredSpace(leaves, is_dict=True)


def plain(kind: str = "box", shape: tuple[int, ...] = (3,), dtype: str = "float32") -> DeclaredSpace:
    return DeclaredSpace((leaf("", kind, shape, dtype),), is_dict=False)


VECTOR, CHOICE, BITS, INTEGERS = plain(), plain("discrete", ()), plain("multi_binary", (4,)), plain(dtype="int32")
IMAGE, SMALL_IMAGE = plain(shape=(84, 84, 3), dtype="uint8"), plain(shape=(20, 20, 3), dtype="uint8")
CAMERA = leaf("camera", shape=(84, 84, 3), dtype="uint8")
POSITION, MODE, LAMPS = leaf("position"), leaf("mode", "discrete", ()), leaf("lamps", "multi_binary", (4,))
ALL = dictionary(POSITION, CAMERA, MODE, LAMPS)


def refusals(observations: DeclaredSpace, actions: DeclaredSpace = CHOICE, **hyperparameters: str) -> dict[str, str]:
    return refusals_of(PPO, observations, actions, hyperparameters)


def refusals_of(
    algorithm: Algorithm, observations: DeclaredSpace, actions: DeclaredSpace, given: dict[str, str]
) -> dict[str, str]:
    parsed = parse_hyperparameters(algorithm, given)
    return {error.field: error.rule for error in space_errors(algorithm, parsed, observations, actions)}


@pytest.mark.parametrize(
    ("observations", "policy"),
    [
        (VECTOR, "MlpPolicy"),
        (CHOICE, "MlpPolicy"),
        (BITS, "MlpPolicy"),
        (IMAGE, "CnnPolicy"),
        (SMALL_IMAGE, "MlpPolicy"),
        (ALL, "MultiInputPolicy"),
    ],
)
def test_policy_that_fits_is_named_and_accepted(observations: DeclaredSpace, policy: str) -> None:
    assert fitting_policy(PPO, observations) == policy
    assert refusals(observations, policy=policy) == {}
    for other in {"MlpPolicy", "CnnPolicy", "MultiInputPolicy"} - {policy}:
        (rule,) = refusals(observations, policy=other).values()
        assert rule.startswith(f"{other} needs")
        assert f"the observations are {observations}" in rule
        assert f"use {policy}" in rule


def test_dict_is_normalised_but_for_what_cannot_be() -> None:
    assert refusals(ALL, normalize="True") == {}
    assert refusals(ALL, normalize="dict(norm_obs_keys=['position'])") == {}
    assert refusals(dictionary(MODE, LAMPS), normalize="dict(norm_obs=False)") == {}
    assert refusals(dictionary(MODE, LAMPS), normalize="True") == {}


@pytest.mark.parametrize(
    ("observations", "normalize", "says"),
    [
        (VECTOR, "dict(norm_obs_keys=['position'])", ["entries of a Dict", "a Box of float32 [3]"]),
        (CHOICE, "True", ["only a Box can be normalised", "a Discrete", "dict(norm_obs=False)"]),
        (BITS, "dict(norm_reward=False)", ["only a Box", "a MultiBinary", "dict(norm_obs=False)"]),
        (IMAGE, "True", ["images", "dict(norm_obs=False)"]),
        (ALL, "dict(norm_obs_keys=['speed'])", ["'speed', which is not an entry", "can name 'position'"]),
        (ALL, "dict(norm_obs_keys=['position', 'mode'])", ["'mode', which is a Discrete", "can name 'position'"]),
        (ALL, "dict(norm_obs_keys=['camera'])", ["'camera', which is a picture", "can name 'position'"]),
    ],
)  # fmt: skip
def test_normalisation_that_does_not_fit_is_refused_with_what_works(
    observations: DeclaredSpace, normalize: str, says: list[str]
) -> None:
    rule = refusals(observations, normalize=normalize)["hyperparameters.normalize"]
    assert all(part in rule for part in says), rule


@pytest.mark.parametrize(
    ("shape", "is_image"), [((36, 36, 3), True), ((3, 36, 36), True), ((35, 36, 3), False), ((40, 20, 50), False)]
)
def test_image_is_a_picture_with_sides_of_at_least_36_pixels(shape: tuple[int, ...], is_image: bool) -> None:
    assert leaf("camera", shape=shape, dtype="uint8").is_image == is_image


def test_image_is_normalised_if_the_policy_does_not_scale_it() -> None:
    assert refusals(IMAGE, normalize="True", policy_kwargs="dict(normalize_images=False)") == {}


@pytest.mark.parametrize(("observations", "what"), [(ALL, "entry 'mode'"), (CHOICE, "observations"), (BITS, "Binary")])
def test_frames_of_anything_but_a_box_are_refused(observations: DeclaredSpace, what: str) -> None:
    rule = refusals(observations, frame_stack="4")["hyperparameters.frame_stack"]
    assert what in rule
    assert "omit frame_stack" in rule
    assert refusals(observations, frame_stack="1") == refusals(dictionary(POSITION, CAMERA), frame_stack="4") == {}


@pytest.mark.parametrize(
    ("observations", "given"),
    [
        (ALL, {"n_steps": "3"}),
        (
            ALL,
            {
                "optimize_memory_usage": "True",
                "replay_buffer_kwargs": "dict(handle_timeout_termination=False)",
            },
        ),
        (CHOICE, {"normalize": "dict(norm_obs=False)"}),
    ],
)
def test_what_a_replay_buffer_cannot_do_with_observations_is_refused(
    observations: DeclaredSpace, given: dict[str, str]
) -> None:
    refused = next(iter(given))
    assert f"omit {refused}" in refusals_of(DQN, observations, CHOICE, given)[f"hyperparameters.{refused}"]
    assert refusals_of(DQN, VECTOR, CHOICE, given) == {}
    if refused != "optimize_memory_usage":
        assert refusals_of(PPO, observations, CHOICE, given) == {}, "a rollout buffer can"


def test_observations_that_neither_a_buffer_nor_normalisation_takes_are_refused_once_and_the_remedy_works() -> None:
    parsed = parse_hyperparameters(DQN, {"normalize": "True"})
    (error,) = space_errors(DQN, parsed, CHOICE, CHOICE)
    assert "Discrete observations and the replay buffer of DQN; omit normalize" in error.rule
    assert "dict(norm_obs=False)" in error.rule
    remedy = plain("multi_discrete", (1,), "int64")
    assert refusals_of(DQN, remedy, CHOICE, {"normalize": "dict(norm_obs=False)"}) == {}


def test_extractor_and_exploration_that_do_not_fit_are_refused() -> None:
    broken = refusals(VECTOR, use_sde="True", policy_kwargs="dict(features_extractor_class=NatureCNN)")
    assert broken.keys() == {
        "hyperparameters.policy_kwargs.features_extractor_class", "hyperparameters.use_sde"
    }  # fmt: skip
    assert refusals(IMAGE, VECTOR, use_sde="True", policy_kwargs="dict(features_extractor_class=NatureCNN)") == {}


@pytest.mark.parametrize(
    ("algorithm", "actions", "says"),
    [
        (PPO, VECTOR, ""),
        (PPO, BITS, ""),
        (DQN, CHOICE, ""),
        (DQN, VECTOR, "use PPO, A2C, SAC, TD3, TQC, CrossQ"),
        (DQN, BITS, "MultiBinary; use PPO, A2C"),
        (Algorithm.QRDQN, VECTOR, "QRDQN takes only discrete actions"),
        (SAC, VECTOR, ""),
        (
            SAC,
            CHOICE,
            "SAC takes only Box actions, and they are a Discrete; use PPO, A2C, DQN, QRDQN",
        ),
        (SAC, INTEGERS, "declare float32, or MultiDiscrete"),
        (PPO, INTEGERS, "declare float32, or MultiDiscrete"),
        (PPO, ALL, "declare Box, Discrete"),
    ],
)
def test_actions_are_refused_with_what_works(algorithm: Algorithm, actions: DeclaredSpace, says: str) -> None:
    problem = actions_problem(algorithm, actions)
    assert says in problem
    assert bool(says) == bool(problem)


def test_observations_without_a_policy_of_the_algorithm_are_refused() -> None:
    crossq = Algorithm.CROSSQ
    given = parse_hyperparameters(crossq, {})
    assert not list(space_errors(crossq, given, VECTOR, VECTOR))
    for observed in (IMAGE, dictionary(POSITION)):
        (error,) = space_errors(crossq, given, observed, VECTOR)
        assert error.field == "hyperparameters.policy"
        assert "CrossQ has only MlpPolicy" in error.rule
        assert "use PPO, A2C, DQN, SAC, TD3, TQC, QRDQN" in error.rule


def test_large_dict_is_described_in_short() -> None:
    many = dictionary(*(leaf(f"k{i}" * 100) for i in range(1000)))
    (rule,) = refusals(many, policy="MlpPolicy").values()
    assert len(rule) < 1500
