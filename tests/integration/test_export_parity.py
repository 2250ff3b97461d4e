"""The exported ONNX file, run by ONNX Runtime, acts as stable-baselines3's ``predict`` does."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime as ort
import pytest
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.export.model_files import export_model
from google.protobuf import json_format
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage

Space = gym.Space[Any]
Array = NDArray[Any]
ROWS = 24

IMAGE_LAST = spaces.Box(0, 255, (38, 37, 3), np.uint8)
IMAGE_FIRST = spaces.Box(0, 255, (3, 38, 37), np.uint8)
VECTOR = spaces.Box(np.array([-1, -np.inf, 0], np.float32), np.array([1, np.inf, 7], np.float32))
OBSERVATIONS: dict[str, Space] = {
    "vector": VECTOR,
    "matrix": spaces.Box(-2, 2, (3, 4), np.float32),
    "wide": spaces.Box(-1e3, 1e3, (2,), np.float64),
    "bytes": spaces.Box(0, 200, (5,), np.uint8),
    "image_last": IMAGE_LAST,
    "image_first": IMAGE_FIRST,
    "discrete": spaces.Discrete(5, start=2),
    "multi_discrete": spaces.MultiDiscrete([3, 2, 4]),
    "multi_binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"where": VECTOR, "mode": spaces.Discrete(3, start=-1), "buttons": spaces.MultiBinary(2)}),
    "dict_image": spaces.Dict({"eye": IMAGE_LAST, "where": VECTOR, "gear": spaces.MultiDiscrete([2, 3])}),
}
ACTIONS: dict[str, Space] = {
    "discrete": spaces.Discrete(4, start=3),
    "box": spaces.Box(np.array([[-2, 0, 10]], np.float32), np.array([[3, 1, 10.5]], np.float32)),
    "multi_discrete": spaces.MultiDiscrete([3, 1, 4]),
    "multi_binary": spaces.MultiBinary(3),
}


class Simulation(gym.Env[Any, Any]):
    """Random observations, shown to SB3 as the trainer shows a simulator."""

    def __init__(self, observed: Space, action_space: Space) -> None:
        self._observed = observed
        self._presentation = SpaceAdapter(observed, action_space)
        self.observation_space = self._presentation.observation_space
        self.action_space = self._presentation.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observation(), 0.0, bool(self.np_random.random() < 0.2), False, {}

    def _observation(self) -> Any:
        rows = self._presentation.observation(observations(self._observed, 1, self.np_random))
        return {key: value[0] for key, value in rows.items()} if isinstance(rows, dict) else rows[0]


@dataclass(frozen=True)
class Case:
    algorithm: type[BaseAlgorithm]
    observation: str
    action: str
    policy: str = ""
    normalize: dict[str, Any] | None = None
    frame_stack: int = 1
    transpose: bool = False
    keywords: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    model: BaseAlgorithm
    observed: Space
    action_space: Space
    normalize: VecNormalize | None
    files: dict[str, bytes]
    session: ort.InferenceSession

    @property
    def description(self) -> pb.DescribeModelResponse:
        return json_format.Parse(self.files["metadata.json"], pb.DescribeModelResponse())

    def act(self, rows: Any, noise: Array | None = None) -> Array:
        feed = {}
        named = {f"observation.{key}": value for key, value in rows.items()} if isinstance(rows, dict) else rows
        for name, value in named.items() if isinstance(named, dict) else [("observation", named)]:
            feed[name] = value.astype(np.uint8 if value.dtype == np.uint8 else np.float32)
        if noise is not None:
            feed["noise"] = noise.astype(np.float32)
        return np.asarray(self.session.run(["action"], feed)[0])

    def predict(self, rows: Any, deterministic: bool = True) -> Array:
        actions, _ = self.model.predict(policy_input(self.model, self.observed, rows), deterministic=deterministic)
        return np.asarray(SpaceAdapter(self.observed, self.action_space).action(actions))


def policy_input(model: BaseAlgorithm, observed: Space, rows: Any) -> Any:
    """What the policy is shown of the simulator's observations, by SB3's own wrappers."""
    rows = SpaceAdapter(observed, spaces.Discrete(2)).observation(rows)
    environment: Any = model.get_env()
    wrappers = []
    while hasattr(environment, "venv"):
        wrappers.append(environment)
        environment = environment.venv
    for wrapper in reversed(wrappers):
        if isinstance(wrapper, VecTransposeImage):
            rows = wrapper.transpose_observations(rows)
        elif isinstance(wrapper, VecNormalize):
            rows = wrapper.normalize_obs(rows)
    return rows


def observations(space: Space, count: int, random: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: observations(inner, count, random) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return random.integers(space.start, space.start + space.n, count)
    if isinstance(space, spaces.MultiDiscrete):
        return random.integers(0, space.nvec, (count, len(space.nvec)))
    if isinstance(space, spaces.MultiBinary):
        return random.integers(0, 2, (count, *space.shape)).astype(np.int8)
    assert isinstance(space, spaces.Box)
    low, high = np.maximum(space.low, -30.0), np.minimum(space.high, 30.0 if space.dtype != np.uint8 else 255.0)
    rows = random.uniform(low, high, (count, *space.shape))
    if len(space.shape) == 3:
        # Patches, because independent pixels average out and every image looks the same to a network.
        patches = random.uniform(0, 255, (count, 4, 4, 4))
        axes = [np.linspace(0, 3.99, extent).astype(int) for extent in space.shape]
        rows = patches[np.ix_(np.arange(count), *axes)]
    return rows.astype(space.dtype)


def export(case: Case) -> Exported:
    th.set_num_threads(1)
    plain, action_space = OBSERVATIONS[case.observation], ACTIONS[case.action]
    venv: VecEnv = DummyVecEnv([lambda: Simulation(plain, action_space)] * 2)
    venv.seed(1)
    observed = plain
    if case.frame_stack > 1:
        venv = VecFrameStack(venv, case.frame_stack)
        observed = venv.observation_space
    if case.transpose:
        venv = VecTransposeImage(venv)
    normalize = VecNormalize(venv, **case.normalize) if case.normalize is not None else None
    venv = normalize or venv
    venv.action_space.seed(3)
    venv.reset()
    for _ in range(20):
        venv.step(np.array([venv.action_space.sample() for _ in range(2)]))
    image = "image" in case.observation
    default = "MultiInputPolicy" if case.observation.startswith("dict") else "CnnPolicy" if image else "MlpPolicy"
    name = case.policy or default
    kwargs: dict[str, Any] = dict(case.policy_kwargs)
    if name == "CnnPolicy":
        kwargs.setdefault("features_extractor_kwargs", {"features_dim": 16})
    elif name == "MultiInputPolicy":
        kwargs.setdefault("features_extractor_kwargs", {"cnn_output_dim": 8})
    sizes: dict[str, Any] = (
        {"buffer_size": 10}
        if case.algorithm is DQN
        else {"n_steps": 4, **({"batch_size": 8} if case.algorithm is PPO else {})}
    )
    model = case.algorithm(name, venv, seed=5, device="cpu", policy_kwargs=kwargs, **sizes, **case.keywords)
    randomise(model)
    centre(model, policy_input(model, observed, observations(observed, ROWS, np.random.default_rng(11))))
    return exported_as_is(model, observed, action_space, normalize, case.frame_stack)


def exported_as_is(
    model: BaseAlgorithm, observed: Space, action_space: Space, normalize: VecNormalize | None, frame_stack: int = 1
) -> Exported:
    files = export_model(
        model,
        observation_space=observed,
        action_space=action_space,
        vec_normalize=normalize,
        frame_stack=frame_stack,
        timesteps=123,
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(files["policy.onnx"], options)
    return Exported(model, observed, action_space, normalize, files, session)


def randomise(model: BaseAlgorithm) -> None:
    """Weights that choose differently for different observations, far from ties."""
    generator = th.Generator().manual_seed(7)
    with th.no_grad():
        for name, parameter in model.policy.named_parameters():
            if name == "log_std":
                parameter.copy_(-1.0 + 0.3 * th.randn(parameter.shape, generator=generator))
            else:
                scale = 2.0 / np.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
                parameter.copy_(scale * th.randn(parameter.shape, generator=generator))


def centre(model: BaseAlgorithm, rows: Any) -> None:
    """Shift the last bias so that no action is best for all ``rows``."""
    policy: Any = model.policy
    last: Any = policy.q_net.q_net[-1] if isinstance(model, DQN) else policy.action_net
    seen: list[th.Tensor] = []
    hook = last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.predict(rows, deterministic=True)
    hook.remove()
    with th.no_grad():
        last.bias -= seen[0].mean(dim=0)


def name_of(case: Case) -> str:
    parts = [case.algorithm.__name__, case.observation, case.action, case.policy]
    extras = [case.keywords, case.policy_kwargs, case.normalize]
    parts += [f"{key}={value}" for extra in extras for key, value in (extra or {}).items()]
    parts += ["normalized"] * (case.normalize is not None) + ["stacked"] * (case.frame_stack > 1)
    return "-".join(part for part in parts if part)


CASES = [
    *(
        Case(algorithm, observation, action)
        for algorithm in (PPO, A2C)
        for observation in OBSERVATIONS
        for action in ACTIONS
        if algorithm is PPO or observation in ("vector", "dict")
    ),
    *(Case(DQN, observation, "discrete") for observation in OBSERVATIONS),
    Case(PPO, "image_last", "box", policy="MlpPolicy"),
    Case(DQN, "image_first", "discrete", policy="MlpPolicy"),
    *(
        Case(algorithm, observation, "discrete", normalize=normalize, frame_stack=stack)
        for algorithm in (PPO, DQN)
        for observation, normalize, stack in (
            ("vector", {}, 1),
            ("vector", {"clip_obs": 0.5, "epsilon": 1e-2}, 1),
            ("vector", {"norm_obs": False}, 1),
            ("vector", {}, 4),
            ("wide", {}, 1),
            ("bytes", {}, 1),
            ("dict", {"norm_obs_keys": ["where"]}, 1),
            ("dict_image", {"norm_obs_keys": ["where"]}, 1),
            ("vector", None, 3),
            ("image_last", None, 2),
            ("image_first", None, 2),
        )
    ),
    Case(PPO, "image_last", "box", normalize={}, transpose=True, policy_kwargs={"normalize_images": False}),
    Case(PPO, "vector", "box", keywords={"use_sde": True}),
    Case(A2C, "vector", "box", keywords={"use_sde": True}, policy_kwargs={"full_std": False, "use_expln": True}),
    Case(PPO, "vector", "box", normalize={}, keywords={"use_sde": True}, policy_kwargs={"squash_output": True}),
    Case(PPO, "image_last", "box", policy_kwargs={"share_features_extractor": False}),
    Case(A2C, "vector", "multi_discrete", policy_kwargs={"net_arch": [], "ortho_init": False}),
    Case(PPO, "vector", "discrete", policy_kwargs={"net_arch": {"pi": [8, 9], "vf": [4]}, "activation_fn": th.nn.ELU}),
    Case(DQN, "vector", "discrete", policy_kwargs={"net_arch": [32], "activation_fn": th.nn.Tanh}),
]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_exported_policy_predicts_as_sb3(case: Case) -> None:
    exported = export(case)
    rows = observations(exported.observed, ROWS, np.random.default_rng(11))

    actions = exported.act(rows)

    expected = exported.predict(rows)
    assert actions.dtype == (np.float32 if case.action == "box" else np.int64)
    assert actions.shape == expected.shape
    if case.action == "box":
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(expected.reshape(ROWS, -1), axis=0)) > 1, "a constant policy would prove nothing"
    one: Any = {key: value[:1] for key, value in rows.items()} if isinstance(rows, dict) else rows[:1]
    np.testing.assert_allclose(exported.act(one), actions[:1], rtol=1e-5, atol=1e-5)
    assert_golden_rows_replay(exported)


def assert_golden_rows_replay(exported: Exported) -> None:
    golden = json.loads(exported.files["golden.json"])
    names = [value.name for value in exported.session.get_inputs()]
    feed = {name: tensor(value) for name, value in zip(names, golden["observations"], strict=True)}
    noise = tensor(golden["noise"])
    actions = tensor(golden["actions"])
    assert len(noise) >= 4
    assert not noise[0].any()
    assert noise.any()
    replayed = exported.session.run(["action"], {**feed, "noise": noise})[0]
    assert replayed.dtype == actions.dtype
    np.testing.assert_allclose(replayed, actions, rtol=1e-4, atol=1e-4)


def tensor(value: dict[str, Any]) -> Array:
    data = base64.b64decode(value["data"])
    return np.frombuffer(data, np.dtype(value["dtype"]).newbyteorder("<")).reshape(value["shape"])


@pytest.mark.parametrize("normalize", [None, {}], ids=["plain", "normalized"])
def test_exported_box_policy_given_sb3s_noise_samples_sb3s_actions(normalize: dict[str, Any] | None) -> None:
    exported = export(Case(PPO, "vector", "box", normalize=normalize))
    rows = observations(exported.observed, ROWS, np.random.default_rng(11))
    th.manual_seed(3)
    expected = exported.predict(rows, deterministic=False)

    th.manual_seed(3)
    noise = th.normal(th.zeros(ROWS, 3), th.ones(ROWS, 3)).numpy()

    assert exported.description.noise_kind == pb.NOISE_KIND_NORMAL
    np.testing.assert_allclose(exported.act(rows, noise), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - exported.predict(rows)).max() > 0.1


@pytest.mark.parametrize("squash", [False, True], ids=["clipped", "squashed"])
@pytest.mark.parametrize("full_std", [False, True], ids=["row_std", "full_std"])
def test_exported_gsde_policy_samples_sb3s_distribution(squash: bool, full_std: bool) -> None:
    kwargs = {"squash_output": squash, "full_std": full_std}
    exported = export(Case(PPO, "vector", "box", keywords={"use_sde": True}, policy_kwargs=kwargs))
    policy = exported.model.policy
    assert isinstance(policy, ActorCriticPolicy)
    with th.no_grad():
        # Means well inside the bounds, where clipping hides nothing.
        for parameter in policy.action_net.parameters():
            parameter.mul_(0.1)
        policy.log_std.sub_(2.0)
    exported = exported_as_is(exported.model, exported.observed, exported.action_space, exported.normalize)
    draws = 4000
    one = observations(exported.observed, 1, np.random.default_rng(11))
    rows = np.repeat(one, draws, axis=0)
    assert isinstance(policy.action_dist, StateDependentNoiseDistribution)
    th.manual_seed(0)
    policy.reset_noise(draws)
    expected = exported.predict(rows, deterministic=False)

    actions = exported.act(rows, np.random.default_rng(1).standard_normal((draws, 3)))

    spread = np.ptp(expected, axis=0)
    assert (spread > 0).all()
    # Kolmogorov and Smirnov's statistic of two samples of 4000: above 0.043 once in a thousand times.
    for ours, theirs in zip(actions.reshape(draws, -1).T, expected.reshape(draws, -1).T, strict=True):
        grid = np.sort(np.concatenate([ours, theirs]))
        gap = np.searchsorted(np.sort(ours), grid, "right") - np.searchsorted(np.sort(theirs), grid, "right")
        assert np.abs(gap).max() / draws < 0.043


@pytest.mark.parametrize("action", ["discrete", "multi_discrete", "multi_binary"])
def test_exported_policy_given_noise_samples_the_policys_probabilities(action: str) -> None:
    exported = export(Case(A2C, "dict", action))
    draws, random = 20_000, np.random.default_rng(2)
    one = observations(exported.observed, 1, np.random.default_rng(13))
    rows = {key: np.repeat(value, draws, axis=0) for key, value in one.items()}
    policy = exported.model.policy
    assert isinstance(policy, ActorCriticPolicy)
    with th.no_grad():
        for parameter in policy.action_net.parameters():
            parameter.mul_(0.3)
        shown_rows, _ = policy.obs_to_tensor(policy_input(exported.model, exported.observed, one))
        found: Any = policy.get_distribution(shown_rows).distribution
    parts = found if isinstance(found, list) else [found]
    probabilities = [part.probs[0].numpy() for part in parts]
    exported = exported_as_is(exported.model, exported.observed, exported.action_space, exported.normalize)
    size = exported.description.noise_size
    kind = exported.description.noise_kind
    if action == "multi_binary":
        assert (kind, size) == (pb.NOISE_KIND_LOGISTIC, 3)
        noise = random.logistic(size=(draws, size))
        probabilities = [np.array([1 - p, p]) for p in probabilities[0]]
    else:
        assert (kind, size) == (pb.NOISE_KIND_GUMBEL, sum(len(p) for p in probabilities))
        noise = random.gumbel(size=(draws, size))

    actions = exported.act(rows, noise).reshape(draws, -1)

    space = ACTIONS[action]
    start = int(space.start) if isinstance(space, spaces.Discrete) else 0
    for column, expected in zip(actions.T, probabilities, strict=True):
        shares = np.bincount(column - start, minlength=len(expected)) / draws
        # Five standard deviations of a share of that many draws.
        assert (np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / draws)).all()


def test_exported_dqn_given_epsilon_greedy_noise_takes_the_random_place() -> None:
    exported = export(Case(DQN, "vector", "discrete"))
    rows = observations(exported.observed, 4, np.random.default_rng(11))
    noise = np.zeros((4, 4), np.float32)
    noise[[0, 1, 2], [2, 0, 3]] = 1e30

    actions = exported.act(rows, noise)

    assert exported.description.noise_kind == pb.NOISE_KIND_EPSILON_GREEDY
    assert actions[:3].tolist() == [5, 3, 6]
    assert actions[3] == exported.predict(rows)[3]
