"""What a run does not take over: other entries of a zip, tensors of other forms, replay buffers that do not fit."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from aisandbox_crds import TakenPart
from aisandbox_trainer.checkpoints import replay_file
from aisandbox_trainer.checkpoints.weights import Weights, read_zip, weights_of
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.errors import CannotStartFrom, UnusableFile
from aisandbox_trainer.training.take_over import SourceModel, take_over
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

OPTIMIZERS = ("policy.optimizer",)


@pytest.fixture(scope="module")
def model() -> Any:
    env = VecNormalize(vectorized(lambda: gym.make("CartPole-v1"), 1))
    return sb3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [2]}, device="cpu")


def test_entries_of_a_zip_that_are_not_needed_are_not_read(model: Any) -> None:
    file = io.BytesIO()
    model.save(file)
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("other.pth", "my_optimizer.pth"):
            archive.writestr(name, b"no tensors")
    assert read_zip(file, 1 << 20, optimizers=OPTIMIZERS).optimizers.keys() == set(OPTIMIZERS)
    assert read_zip(file, 1 << 20).optimizers == {}


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_zip_of_any_compression_is_unusable(compression: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("policy.pth", bytes(range(256)) * 64)
    data = bytearray(file.getvalue())
    data[54:70] = bytes(255 - each for each in data[54:70])  # behind the header of the entry and what compressors write
    with pytest.raises(UnusableFile, match="it is damaged"):
        read_zip(io.BytesIO(data), 1 << 20)


def test_zip_that_cannot_be_read_is_not_called_damaged() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == 0:
                raise OSError(errno.EIO, "the disk does not answer")
            return super().read(size)

    file = Failing()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("policy.pth", b"weights")
    with pytest.raises(OSError, match="does not answer"):
        read_zip(file, 1 << 20)


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.long, lambda tensor: tensor.to("meta")])
@pytest.mark.parametrize("part", ["policy", "optimizers"])
def test_tensors_of_another_form_are_not_taken_over(model: Any, part: str, change: Any) -> None:
    own = weights_of(model)
    policy, optimizers = dict(own.policy), dict(own.optimizers)
    name = next(name for name in policy if name.endswith("weight"))
    if part == "policy":
        policy[name] = change(policy[name])
    else:
        moments = change(next(iter(model.policy.parameters())).detach())
        state = {0: {"step": torch.tensor(1.0), "exp_avg": moments, "exp_avg_sq": moments}}
        optimizers["policy.optimizer"] = {**optimizers["policy.optimizer"], "state": state}
    learned = SourceModel("other", Weights(policy, {}, optimizers, own.statistics))
    with pytest.raises(CannotStartFrom, match="does not fit"):
        take_over(model, learned, [TakenPart.OPTIMIZER])


def test_statistics_that_are_no_numbers_are_not_taken_over(model: Any) -> None:
    own = weights_of(model)
    name = next(name for name in own.statistics if name.endswith("count"))
    learned = SourceModel("other", Weights(own.policy, {}, {}, {**own.statistics, name: np.array("many")}))
    with pytest.raises(CannotStartFrom, match="it has other statistics"):
        take_over(model, learned, [TakenPart.NORMALIZATION])


def buffer() -> ReplayBuffer:
    made = ReplayBuffer(8, gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2))
    for _ in range(3):
        made.add(*(np.ones((1, 2)),) * 2, np.ones((1, 1)), np.ones(1), np.zeros(1), [{}])
    return made


@pytest.mark.parametrize(
    ("header", "cut", "says"),
    [
        ({"pos": -1}, 0, "malformed"),
        ({"pos": 5}, 0, "malformed"),
        ({"pos": 1.5}, 0, "malformed"),
        ({"full": "yes"}, 0, "malformed"),
        ({"layout": [["observations", "<f4", [0, 0, 2]]]}, 0, "malformed"),
        ({"layout": [["observations", "nothing", [4, 1, 2]]]}, 0, "malformed"),
        ({"layout": [["observations", "<f4", [4, 1, 3]]]}, 0, "other observations or actions"),
        ({}, 1, "ends in the middle of its arrays"),
    ],
)
def test_replay_buffer_that_does_not_fit_is_not_taken_over(
    tmp_path: Path, header: dict[str, Any], cut: int, says: str
) -> None:
    path, stored, target = tmp_path / "buffer", buffer(), buffer()
    replay_file.save(None, stored, path)  # type: ignore[arg-type]
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    changed = json.dumps({**json.loads(data[8:start]), **header}).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[start : len(data) - cut])
    with pytest.raises(UnusableFile, match=says):
        replay_file.take(target, path)
