from __future__ import annotations

import base64
import json
import random
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import onnx
import pytest
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_trainer.errors import CannotExport, NonFiniteTraining
from aisandbox_trainer.export.model_files import export_model
from google.protobuf import json_format
from gymnasium import spaces
from sb3_contrib import ARS
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize


@pytest.fixture(scope="module")
def ppo() -> PPO:
    return PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu")


def export(model: BaseAlgorithm, **changes: Any) -> dict[str, bytes]:
    environment = model.get_env()
    assert environment is not None
    terms = {
        "observation_space": environment.observation_space,
        "action_space": environment.action_space,
        "vec_normalize": None,
        "timesteps": 7,
    }
    return export_model(model, **{**terms, **changes})


class ExportAtEveryRollout(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.exported: list[bytes] = []

    def _on_step(self) -> bool:
        if isinstance(self.model, DQN) and self.n_calls % 20 == 0:
            self.export()
        return True

    def _on_rollout_end(self) -> None:
        if not isinstance(self.model, DQN):
            self.export()

    def export(self) -> None:
        files = export(self.model, vec_normalize=self.model.get_vec_normalize_env())
        self.exported.append(files["policy.onnx"])


def trained(algorithm: type[BaseAlgorithm], callback: BaseCallback | None) -> tuple[BaseAlgorithm, list[Any]]:
    random.seed(1)
    venv = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=4))
    keywords: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
    if algorithm is A2C:
        keywords = {"n_steps": 8}
    elif algorithm is DQN:
        keywords = {"learning_starts": 20, "train_freq": 4, "buffer_size": 200, "policy_kwargs": {"net_arch": [16]}}
    # Dropout draws from torch's generator and follows the mode of the policy: both would show a trace of an export.
    dropout: dict[str, Any] = {"activation_fn": lambda: th.nn.Dropout(0.5), **keywords.pop("policy_kwargs", {})}
    model = algorithm("MlpPolicy", venv, seed=4, device="cpu", policy_kwargs=dropout, **keywords)
    model.learn(160, callback)
    return model, [random.random(), np.random.rand(), th.rand(1).item(), venv.action_space.sample()]


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN])
def test_training_that_exports_in_between_ends_bit_for_bit_like_one_that_does_not(
    algorithm: type[BaseAlgorithm],
) -> None:
    callback = ExportAtEveryRollout()

    exporting, exporting_draws = trained(algorithm, callback)
    plain, plain_draws = trained(algorithm, None)

    assert len(set(callback.exported)) > 3
    assert exporting_draws == plain_draws
    theirs = plain.policy.state_dict()
    for name, parameter in exporting.policy.state_dict().items():
        assert th.equal(parameter, theirs[name]), name


def test_export_leaves_modes_and_gradients_as_they_are(ppo: PPO) -> None:
    ppo.policy.set_training_mode(True)
    ppo.policy.value_net.eval()
    modes = {name: module.training for name, module in ppo.policy.named_modules()}

    export(ppo)

    assert {name: module.training for name, module in ppo.policy.named_modules()} == modes
    assert all(parameter.requires_grad and parameter.grad is None for parameter in ppo.policy.parameters())
    assert th.is_grad_enabled()


def test_export_is_silent(ppo: PPO, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(ppo)

    assert capfd.readouterr() == ("", "")


def test_export_of_the_same_policy_is_the_same_bytes(ppo: PPO) -> None:
    assert export(ppo) == export(ppo)


def test_onnx_is_one_file_with_a_default_for_noise(ppo: PPO) -> None:
    file = onnx.load_model_from_string(export(ppo)["policy.onnx"])

    inputs = {value.name: value.type.tensor_type for value in file.graph.input}
    assert [value.name for value in file.graph.input] == ["observation", "noise"]
    assert [value.name for value in file.graph.output] == ["action"]
    assert inputs["observation"].elem_type == onnx.TensorProto.FLOAT
    assert [axis.dim_param or axis.dim_value for axis in inputs["observation"].shape.dim] == ["batch", 4]
    (default,) = [each for each in file.graph.initializer if each.name == "noise"]
    array = onnx.numpy_helper.to_array(default)
    assert array.shape == (1, 2)
    assert not array.any()
    assert all(each.data_location == onnx.TensorProto.DEFAULT for each in file.graph.initializer)
    onnx.checker.check_model(file, full_check=True)


def test_onnx_file_has_its_description_and_golden_examples_as_properties(ppo: PPO) -> None:
    files = export(ppo)

    file = onnx.load_model_from_string(files["policy.onnx"])
    properties = {each.key: each.value.encode() for each in file.metadata_props}
    assert properties == {
        "aisandbox.description": files["metadata.json"],
        "aisandbox.golden": files["golden.json"],
    }


def test_metadata_describes_the_model() -> None:
    stacked = VecFrameStack(make_vec_env("Pendulum-v1"), 3)
    simulators_action = spaces.Box(-2.0, 2.0, (1,), np.float32)
    venv = VecNormalize(stacked)
    model = A2C("MlpPolicy", venv, device="cpu")

    files = export_model(
        model,
        observation_space=stacked.observation_space,
        action_space=simulators_action,
        vec_normalize=venv,
        frame_stack=3,
        timesteps=1234,
    )

    found = json_format.Parse(files["metadata.json"], pb.DescribeModelResponse())
    assert found.algorithm == pb.ALGORITHM_A2C
    assert found.model_timesteps == 1234
    assert found.frame_stack == 3
    assert found.normalized_observations
    assert list(found.observation_space.box.shape) == [9]
    assert list(found.action_space.box.high) == [2.0]
    assert (found.noise_kind, found.noise_size) == (pb.NOISE_KIND_NORMAL, 1)
    assert found.versions["stable-baselines3"].startswith("2.")
    assert (found.run_id, found.model) == ("", "")


def test_metadata_of_dqn_has_the_exploration_rate() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=10)
    model.exploration_rate = 0.25

    found = json_format.Parse(export(model)["metadata.json"], pb.DescribeModelResponse())

    assert found.noise_kind == pb.NOISE_KIND_EPSILON_GREEDY
    assert (found.noise_size, found.epsilon) == (2, 0.25)


def test_golden_rows_of_an_indifferent_policy_leave_ties_out(ppo: PPO) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu")
    with th.no_grad():
        for name, parameter in model.policy.named_parameters():
            if name.startswith("action_net"):
                parameter.zero_()

    golden = json.loads(export(model)["golden.json"])

    # Without noise every action ties, so only rows with noise are left.
    assert golden["noise"]["shape"] == [8, 2]
    assert json.loads(export(ppo)["golden.json"])["noise"]["shape"] == [16, 2]


def test_golden_rows_of_a_wide_box_are_far_from_zero_where_a_relative_error_is_blind() -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, seed=0, device="cpu")

    wide = export(model, action_space=spaces.Box(-5000.0, 5000.0, (1,), np.float32))["golden.json"]

    actions = json.loads(wide)["actions"]
    values = np.frombuffer(base64.b64decode(actions["data"]), "<f4")
    assert len(values) >= 8
    # Another order of the sums is off by some 1e-6 of the whole range; a reader grants 1e-3 of the action.
    assert (1e-3 * np.abs(values) > 20 * 1e-6 * 5000).all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_export_refuses_a_diverged_policy(poison: float) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    with th.no_grad():
        next(iter(model.policy.parameters())).view(-1)[0] = poison

    with pytest.raises(NonFiniteTraining, match="NaN or infinite"):
        export(model)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"observation_space": spaces.Box(-1, 1, (5,))}, "observation: the space has shape"),
        ({"observation_space": spaces.Dict({"a": spaces.Box(-1, 1, (4,))})}, "observation_space"),
        ({"action_space": spaces.Discrete(3)}, "action_space"),
        ({"action_space": spaces.MultiDiscrete([2])}, "action_space"),
        ({"action_space": spaces.Box(-1, 1, (2,))}, "action_space"),
    ],
)
def test_export_refuses_spaces_of_another_simulator(ppo: PPO, changes: dict[str, gym.Space[Any]], named: str) -> None:
    with pytest.raises(CannotExport, match=named):
        export(ppo, **changes)


def test_export_refuses_statistics_of_another_shape() -> None:
    inner = VecNormalize(make_vec_env("CartPole-v1"))
    model = PPO("MlpPolicy", VecFrameStack(inner, 2), device="cpu")

    with pytest.raises(CannotExport, match="next to the policy"):
        export(model, vec_normalize=inner)


def test_export_refuses_other_algorithms() -> None:
    model = ARS("MlpPolicy", "Pendulum-v1", device="cpu")

    with pytest.raises(CannotExport, match="ARSPolicy"):
        export(model)
