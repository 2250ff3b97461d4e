"""What the contract allows trains, or is refused with a reason: by the dry run on synthetic observations."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from aisandbox_crds.algorithms import ALGORITHMS, has_parameter
from aisandbox_crds.hyperparameters import parse_hyperparameters
from aisandbox_crds.policy_kwargs import OBSERVED_DICT
from aisandbox_crds.reasons import Reason
from aisandbox_crds.spec import Algorithm, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_exit import ExitCode
from aisandbox_model_store.served_model import GoldenExamples
from aisandbox_process.passed_checks import PassedChecks
from aisandbox_trainer.algorithms.policy_choice import check_hyperparameters, choose_policy
from aisandbox_trainer.checkpoints.random_state import RandomState
from aisandbox_trainer.environments.factory import Environments
from aisandbox_trainer.environments.normalization import normalized_keys
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import DryRunFailed, InvalidHyperparameter, NonFiniteTraining
from aisandbox_trainer.run.exit_status import exit_status_of
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training import dry_run
from aisandbox_trainer.training.policy_files import policy_files
from gymnasium import spaces
from gymnasium.spaces import Box, Discrete

TWO = Discrete(2)
VECTOR = Box(-1, 1, (3,), np.float32)
PICTURE = Box(0, 255, (36, 40, 3), np.uint8)
REWARDS_ONLY = "dict(norm_obs=False)"


def dry_run_of(
    observations: gym.Space[Any], actions: gym.Space[Any] = TWO, algorithm: str = "PPO", **hyperparameters: Any
) -> None:
    chosen = Algorithm(algorithm)
    texts = {key: str(value) for key, value in hyperparameters.items()}
    parsed = parse_hyperparameters(chosen, texts)
    spec = TrainingRunSpec(
        algorithm=chosen,
        total_timesteps=10,
        environment=GymnasiumEnvironment("CartPole-v1"),
        hyperparameters=texts,
    )
    adapter = SpaceAdapter(observations, actions)
    check_hyperparameters(chosen, parsed, observations, actions)
    policy = choose_policy(chosen, parsed.policy, adapter.observation_space)
    environments = Environments(spec, parsed, "run-1", Stop(), Settings())
    dry_run.DryRun(environments, chosen, parsed, policy).run(adapter)


def names(*keys: str) -> spaces.Dict:
    return spaces.Dict([(key, VECTOR) for key in keys])


def picture(*shape: int) -> spaces.Dict:
    return spaces.Dict(camera=Box(0, 255, shape, np.uint8), speed=VECTOR)


UNSORTED = spaces.Dict([("zeta", Box(-1, 1, (2,), np.float64)), ("alpha", Discrete(4, start=2)), ("mid", VECTOR)])
MIXED = spaces.Dict(camera=PICTURE, speed=VECTOR, gear=Discrete(3), lamps=spaces.MultiBinary(2))


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
@pytest.mark.parametrize(
    "space",
    [
        UNSORTED,
        names("type", "values", "keys", "items", "training", "forward"),
        names("lidar.front", "lidar.back", "_modules", "lidar_front", "größe", "a b/c"),
        picture(7, 7, 3),
        picture(40, 3, 40),
        Box(-1, 1, (), np.float64),
        spaces.Dict(speed=Box(-1, 1, (), np.float32), gear=Discrete(2)),
        Box(0, 1, (3,), np.float16),
        Box(0, 100, (3,), np.uint32),
        Box(0, 1, (3,), np.bool_),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_dry_run_trains_and_exports_what_the_contract_allows(space: gym.Space[Any], algorithm: str) -> None:
    dry_run_of(space, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_dry_run_trains_and_exports_every_algorithm(algorithm: Algorithm) -> None:
    traits = ALGORITHMS[algorithm]
    actions: gym.Space[Any] = TWO if "discrete" in traits.actions else Box(-2, 3, (2,), np.float32)
    small = {"buffer_size": 100} if traits.off_policy else {}
    dry_run_of(VECTOR, actions, algorithm, normalize=True, frame_stack=2, **small)
    if traits.action_noise:
        dry_run_of(Box(-1, 1, (), np.float32), actions, algorithm, noise_type="normal", noise_std=0.1)
    if has_parameter(algorithm, "use_sde") and "box" in traits.actions:
        dry_run_of(VECTOR, Box(-2, 3, (2,), np.float32), algorithm, use_sde=True)
    if OBSERVED_DICT in traits.policies:
        dry_run_of(picture(7, 7, 3), actions, algorithm)
    else:
        with pytest.raises(InvalidHyperparameter, match="has only MlpPolicy"):
            dry_run_of(picture(7, 7, 3), actions, algorithm)


@pytest.mark.parametrize("shape", [(20, 20, 3), (35, 35, 3), (3, 35, 35), (7, 50, 3), (36, 36, 1)])
def test_dry_run_takes_pictures_of_any_size_beside_a_vector(shape: tuple[int, ...]) -> None:
    dry_run_of(picture(*shape))


def test_dry_run_stacks_frames_in_the_simulators_order() -> None:
    dry_run_of(spaces.Dict([("z", Box(-1, 1, (2,), np.float64)), ("a", VECTOR), ("m", PICTURE)]), frame_stack=3)
    dry_run_of(Box(-1, 1, (), np.float32), frame_stack=3)


@pytest.mark.parametrize(
    "actions", [Box(0, 5, (), np.float32), Box(-60000, 60000, (2,), np.float16), Box(-1e12, 1e12, (1,), np.float64)]
)
def test_dry_run_takes_box_actions_of_any_form(actions: Box) -> None:
    dry_run_of(VECTOR, actions)


def test_dry_run_learns_binary_actions_of_a_recurrent_policy() -> None:
    """sb3-contrib's own RecurrentPPO computes no loss of them."""
    dry_run_of(VECTOR, spaces.MultiBinary(3), "RecurrentPPO")


@pytest.mark.parametrize(
    ("space", "algorithm", "normalize"),
    [
        (MIXED, "PPO", True),
        (MIXED, "DQN", True),
        (PICTURE, "DQN", REWARDS_ONLY),
        (MIXED, "DQN", REWARDS_ONLY),
        (spaces.MultiDiscrete([3]), "DQN", REWARDS_ONLY),
        (Discrete(3), "A2C", REWARDS_ONLY),
        (spaces.Dict(camera=PICTURE, gear=Discrete(3)), "PPO", True),
        (Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (3,), np.float32), "PPO", True),
    ],
)
def test_dry_run_normalises_what_can_be(space: gym.Space[Any], algorithm: str, normalize: Any) -> None:
    dry_run_of(space, algorithm=algorithm, normalize=normalize)


@pytest.mark.parametrize(
    ("space", "normalize"), [(PICTURE, True), (MIXED, "dict(norm_obs_keys=['camera'])")], ids=["image", "entry"]
)
def test_dry_run_normalises_images_that_the_policy_does_not_scale(space: gym.Space[Any], normalize: Any) -> None:
    dry_run_of(space, algorithm="A2C", normalize=normalize, policy_kwargs="dict(normalize_images=False)")


@pytest.mark.parametrize(("extractor", "shape"), [("NatureCNN", (3, 36, 40)), ("FlattenExtractor", (36, 40, 3))])
def test_statistics_of_images_that_are_flattened_fit_those_of_earlier_runs(
    extractor: str, shape: tuple[int, ...]
) -> None:
    """Those had the order of the simulator, in which a network for images cannot read them."""
    texts = {
        "normalize": "True", "policy_kwargs": f"dict(normalize_images=False, features_extractor_class={extractor})"
    }  # fmt: skip
    spec = TrainingRunSpec(Algorithm.PPO, 10, GymnasiumEnvironment("CartPole-v1"), hyperparameters=texts)
    environments = Environments(spec, parse_hyperparameters(Algorithm.PPO, texts), "run-1", Stop(), Settings())
    env: Any = environments.wrap(dry_run.SyntheticEnv(SpaceAdapter(PICTURE, TWO)))
    assert env.obs_rms.mean.shape == shape


def test_normalisation_chooses_the_vectors_by_itself() -> None:
    normalize = parse_hyperparameters(Algorithm.PPO, {"normalize": "True"}).normalize
    assert normalize is not None
    assert normalized_keys(MIXED, normalize) == ["speed"]


@pytest.mark.parametrize(
    ("space", "hyperparameters", "message"),
    [
        (MIXED, {"normalize": "dict(norm_obs_keys=['rpm'])"}, r"'rpm', which is not an entry.*can name 'speed'"),
        (MIXED, {"normalize": "dict(norm_obs_keys=['gear'])"}, "gear"),
        (MIXED, {"normalize": "dict(norm_obs_keys=['camera'])"}, "is a picture"),
        (VECTOR, {"normalize": "dict(norm_obs_keys=['speed'])"}, "omit norm_obs_keys"),
        (Discrete(3), {"normalize": True}, r"only a Box.*norm_obs=False"),
        (PICTURE, {"normalize": True}, r"are images.*norm_obs=False"),
        (UNSORTED, {"frame_stack": 2}, r"frame_stack: only a Box.*'alpha'"),
        (spaces.MultiBinary(3), {"frame_stack": 2}, "frame_stack: only a Box"),
    ],
)
def test_hyperparameters_that_do_not_suit_the_space_are_refused_with_what_does(
    space: gym.Space[Any], hyperparameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidHyperparameter, match=message):
        dry_run_of(space, **hyperparameters)


def test_unknown_error_of_the_dry_run_is_permanent_and_names_the_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(dry_run, "policy_files", fails)
    with pytest.raises(DryRunFailed, match=r"MlpPolicy .*Box\(-1.*Discrete\(2\).*KeyError: 'surprise'") as e:
        dry_run_of(VECTOR)
    status = exit_status_of(e.value)
    assert (status.code, status.failure and status.failure.reason) == (ExitCode.PERMANENT, Reason.CANNOT_TRAIN)


def test_hyperparameters_that_diverge_at_once_are_not_blamed_on_the_spaces() -> None:
    with pytest.raises(NonFiniteTraining, match="try a lower learning_rate"):
        dry_run_of(VECTOR, Box(-1, 1, (1,), np.float32), "SAC", learning_rate="1e30")


def test_configuration_has_one_dry_run_for_the_forks_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = PassedChecks()
    checks.share()
    monkeypatch.setattr(dry_run, "PASSED_CHECKS", checks)
    exported: list[str] = []

    def export(*args: Any) -> dict[str, bytes]:
        exported.append("policy")
        return policy_files(*args)

    monkeypatch.setattr(dry_run, "policy_files", export)
    dry_run_of(VECTOR)
    dry_run_of(Box(-1, 1, (3,), np.float32))
    assert len(exported) == 1
    others: list[tuple[gym.Space[Any], gym.Space[Any], str, dict[str, Any]]] = [
        (Box(-1, 1, (4,), np.float32), TWO, "PPO", {}),
        (Box(-1, 2, (3,), np.float32), TWO, "PPO", {}),
        (VECTOR, Discrete(3), "PPO", {}),
        (VECTOR, TWO, "A2C", {}),
        (VECTOR, TWO, "PPO", {"ent_coef": 0.1}),
        (names("a", "b"), TWO, "PPO", {}),
        (names("b", "a"), TWO, "PPO", {}),
    ]
    for number, (space, actions, algorithm, hyperparameters) in enumerate(others, 2):
        dry_run_of(space, actions, algorithm, **hyperparameters)
        assert len(exported) == number


def test_dry_run_that_failed_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = PassedChecks()
    checks.share()
    monkeypatch.setattr(dry_run, "PASSED_CHECKS", checks)
    monkeypatch.setattr(dry_run, "policy_files", lambda *_: {})
    for _ in range(2):
        with pytest.raises(DryRunFailed):
            dry_run_of(VECTOR)
    monkeypatch.setattr(dry_run, "policy_files", policy_files)
    dry_run_of(VECTOR)


def test_dry_run_lets_a_lack_of_memory_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(dry_run, "policy_files", fails)
    with pytest.raises(MemoryError):
        dry_run_of(VECTOR)


def test_parity_of_the_dry_run_notices_another_action(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(*args: Any) -> dict[str, bytes]:
        files = policy_files(*args)
        examples = GoldenExamples.from_bytes(files["golden.json"])
        other = np.frombuffer(examples.actions.data, examples.actions.dtype) + 1
        changed = replace(examples, actions=replace(examples.actions, data=other.tobytes()))
        return {**files, "golden.json": changed.to_bytes()}

    monkeypatch.setattr(dry_run, "policy_files", another)
    with pytest.raises(DryRunFailed, match="acts differently"):
        dry_run_of(VECTOR)


@pytest.mark.parametrize(("algorithm", "space"), [("PPO", MIXED), ("DQN", VECTOR)])
def test_dry_run_changes_no_generator_and_no_space(algorithm: str, space: gym.Space[Any]) -> None:
    actions = Discrete(2, seed=3)
    torch.manual_seed(11)
    before, same_space = _states(actions), copy.deepcopy(space)
    dry_run_of(space, actions, algorithm, normalize=True)
    assert _states(actions) == before
    assert space == same_space


def _states(actions: gym.Space[Any]) -> list[str]:
    now = RandomState.capture(actions)
    return [repr(now.python), repr(now.numpy[1].tolist()), repr(now.torch.tolist()), repr(now.action_space)]
