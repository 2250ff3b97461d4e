"""Policies of every algorithm and space, exported as a training does, with what stable-baselines3 does for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime as ort
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_trainer.algorithms.features_extractors import with_fitting_extractor
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.export.model_files import export_model
from google.protobuf import json_format
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import QRDQN, TQC, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
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
        self._spaces = SpaceAdapter(observed, action_space)
        self.observation_space = self._spaces.observation_space
        self.action_space = self._spaces.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observation(), 0.0, bool(self.np_random.random() < 0.2), False, {}

    def _observation(self) -> Any:
        rows = self._spaces.observation(observations(self._observed, 1, self.np_random))
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

    def act(self, rows: Any, noise: Array | None = None, masks: Array | None = None) -> Array:
        """The actions; of a recurrent policy those for the first observations of episodes."""
        return self.act_in_episode(rows, None, noise, masks=masks)[0]

    def act_in_episode(
        self,
        rows: Any,
        memory: list[Array] | None,
        noise: Array | None = None,
        starts: Array | None = None,
        masks: Array | None = None,
    ) -> tuple[Array, list[Array]]:
        """The actions, and the next memory; ``memory`` None: of the first observations of episodes."""
        feed = self._feed(rows, noise, masks)
        state, count = self.description.state, len(next(iter(feed.values())))
        if state:
            first = memory is None
            memory = memory or [np.zeros((count, *tensor.shape), np.float32) for tensor in state]
            feed |= {tensor.name: value for tensor, value in zip(state, memory, strict=True)}
            feed["episode_start"] = np.full(count, first, np.float32) if starts is None else starts.astype(np.float32)
        actions, *following = self.session.run(["action", *(f"next_{tensor.name}" for tensor in state)], feed)
        return np.asarray(actions), following

    def _feed(self, rows: Any, noise: Array | None, masks: Array | None) -> dict[str, Array]:
        feed = {}
        named = {f"observation.{key}": value for key, value in rows.items()} if isinstance(rows, dict) else rows
        for name, value in named.items() if isinstance(named, dict) else [("observation", named)]:
            feed[name] = value.astype(np.uint8 if value.dtype == np.uint8 else np.float32)
        if noise is not None:
            feed["noise"] = noise.astype(np.float32)
        if masks is not None:
            feed["action_mask"] = masks.astype(np.uint8)
        return feed

    def predict(self, rows: Any, deterministic: bool = True, masks: Array | None = None) -> Array:
        given: Any = {} if masks is None else {"action_masks": masks}
        shown = policy_input(self.model, self.observed, rows)
        actions, _ = self.model.predict(shown, deterministic=deterministic, **given)
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
    if case.algorithm is RecurrentPPO:
        default = default.replace("Policy", "LstmPolicy")
    name = case.policy or default
    kwargs: dict[str, Any] = dict(case.policy_kwargs)
    if name.startswith("Cnn"):
        kwargs.setdefault("features_extractor_kwargs", {"features_dim": 16})
    elif name.startswith("MultiInput"):
        kwargs.setdefault("features_extractor_kwargs", {"cnn_output_dim": 8})
    if case.algorithm is RecurrentPPO:
        kwargs = with_fitting_extractor(kwargs, venv.observation_space, recurrent=True)
    sizes: dict[str, Any] = (
        {"buffer_size": 10}
        if issubclass(case.algorithm, OffPolicyAlgorithm)
        else {"n_steps": 4, **({} if case.algorithm is A2C else {"batch_size": 8})}
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
    last = last_layer(policy)
    seen: list[th.Tensor] = []
    hook = last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.predict(rows, deterministic=True)
    hook.remove()
    with th.no_grad():
        last.bias -= seen[0].mean(dim=0)


def last_layer(policy: Any) -> Any:
    """The layer of a policy whose outputs are logits, means, values or quantiles of values."""
    if hasattr(policy, "q_net"):
        return policy.q_net.q_net[-1]
    if hasattr(policy, "quantile_net"):
        return policy.quantile_net.quantile_net[-1]
    if hasattr(policy, "actor"):
        layers = [layer for layer in policy.actor.mu.modules() if isinstance(layer, th.nn.Linear)]
        return layers[-1]
    return policy.action_net


def name_of(case: Case) -> str:
    parts = [case.algorithm.__name__, case.observation, case.action, case.policy]
    extras = [case.keywords, case.policy_kwargs, case.normalize]
    parts += [f"{key}={value}" for extra in extras for key, value in (extra or {}).items()]
    parts += ["normalized"] * (case.normalize is not None) + ["stacked"] * (case.frame_stack > 1)
    return "-".join(part for part in parts if part)


_SMALL: dict[str, Any] = {"net_arch": [32, 16]}
_QUANTILES: dict[str, Any] = {"net_arch": [32], "n_quantiles": 7}
_LSTM: dict[str, Any] = {"net_arch": [16], "lstm_hidden_size": 12}
CASES = [
    *(
        Case(algorithm, observation, action)
        for algorithm in (PPO, A2C)
        for observation in OBSERVATIONS
        for action in ACTIONS
        if algorithm is PPO or observation in ("vector", "dict")
    ),
    *(Case(DQN, observation, "discrete") for observation in OBSERVATIONS),
    *(Case(MaskablePPO, "vector", action) for action in ("discrete", "multi_discrete", "multi_binary")),
    Case(MaskablePPO, "dict_image", "multi_discrete"),
    Case(MaskablePPO, "vector", "discrete", normalize={}, frame_stack=3),
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
    *(
        Case(QRDQN, observation, "discrete", policy_kwargs=_QUANTILES)
        for observation in ("vector", "dict", "image_last")
    ),
    Case(QRDQN, "vector", "discrete", normalize={}, frame_stack=3, policy_kwargs=_QUANTILES),
    *(Case(algorithm, "vector", "box", policy_kwargs=_SMALL) for algorithm in (SAC, TD3, TQC, CrossQ)),
    *(Case(algorithm, "dict", "box", policy_kwargs=_SMALL) for algorithm in (SAC, TD3, TQC)),
    *(Case(algorithm, "image_last", "box", policy_kwargs=_SMALL) for algorithm in (SAC, TD3)),
    Case(SAC, "vector", "box", normalize={}, frame_stack=3, policy_kwargs=_SMALL),
    Case(CrossQ, "vector", "box", normalize={}, policy_kwargs=_SMALL),
    Case(SAC, "vector", "box", keywords={"use_sde": True}, policy_kwargs={**_SMALL, "use_expln": True}),
    Case(TQC, "vector", "box", keywords={"use_sde": True}, policy_kwargs={**_SMALL, "clip_mean": 0.0}),
    Case(SAC, "vector", "box", policy_kwargs={"net_arch": []}),
    Case(TD3, "vector", "box", policy_kwargs={"net_arch": []}),
    *(Case(RecurrentPPO, "vector", action, policy_kwargs=_LSTM) for action in ACTIONS),
    Case(RecurrentPPO, "multi_discrete", "discrete", policy_kwargs=_LSTM),
    Case(RecurrentPPO, "dict_image", "discrete", policy_kwargs=_LSTM),
    Case(RecurrentPPO, "image_last", "box", policy_kwargs={**_LSTM, "share_features_extractor": False}),
    Case(RecurrentPPO, "vector", "discrete", normalize={}, frame_stack=3, policy_kwargs={**_LSTM, "n_lstm_layers": 2}),
    Case(RecurrentPPO, "vector", "box", keywords={"use_sde": True}, policy_kwargs=_LSTM),
    Case(
        RecurrentPPO,
        "dict",
        "discrete",
        policy_kwargs={**_LSTM, "shared_lstm": True, "enable_critic_lstm": False, "lstm_kwargs": {"bias": False}},
    ),
]
