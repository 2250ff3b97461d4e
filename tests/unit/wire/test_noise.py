"""The noise has the distribution that makes the mode of the noisy scores a sample of the policy."""

from __future__ import annotations

import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_wire.noise import NOISE_KINDS, draw_noise

COUNT = 100_000


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("count", [1, 5])
def test_noise_has_the_shape_and_dtype_of_the_input(kind: pb.NoiseKind.ValueType, count: int) -> None:
    noise = draw_noise(np.random.default_rng(0), kind, count, 3, 0.5)
    assert noise.shape == (count, 3)
    assert noise.dtype == np.float32
    assert np.isfinite(noise).all()


def test_gumbel_noise_samples_the_softmax() -> None:
    scores = np.array([0.0, 1.0, -1.0])
    noise = draw_noise(np.random.default_rng(1), pb.NOISE_KIND_GUMBEL, COUNT, 3, 0)
    frequencies = np.bincount((scores + noise).argmax(axis=1), minlength=3) / COUNT
    np.testing.assert_allclose(frequencies, np.exp(scores) / np.exp(scores).sum(), atol=0.01)


def test_logistic_noise_samples_the_sigmoid() -> None:
    scores = np.array([0.0, 2.0])
    noise = draw_noise(np.random.default_rng(2), pb.NOISE_KIND_LOGISTIC, COUNT, 2, 0)
    np.testing.assert_allclose((scores + noise > 0).mean(axis=0), 1 / (1 + np.exp(-scores)), atol=0.01)


def test_normal_noise_is_standard_and_independent() -> None:
    noise = draw_noise(np.random.default_rng(3), pb.NOISE_KIND_NORMAL, COUNT, 2, 0)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(2), atol=0.02)


def test_epsilon_greedy_noise_forces_one_action_as_often_as_epsilon_says() -> None:
    noise = draw_noise(np.random.default_rng(4), pb.NOISE_KIND_EPSILON_GREEDY, COUNT, 4, 0.3)
    forced = noise.any(axis=1)
    assert forced.mean() == pytest.approx(0.3, abs=0.01)
    assert ((noise == 0) | (noise == np.float32(1e30))).all()
    assert ((noise != 0).sum(axis=1) <= 1).all()
    np.testing.assert_allclose(np.bincount(noise[forced].argmax(axis=1)) / forced.sum(), 0.25, atol=0.02)


@pytest.mark.parametrize(("epsilon", "forced"), [(0.0, 0), (1.0, 1000)])
def test_epsilon_greedy_noise_at_the_ends(epsilon: float, forced: int) -> None:
    noise = draw_noise(np.random.default_rng(5), pb.NOISE_KIND_EPSILON_GREEDY, 1000, 2, epsilon)
    assert noise.any(axis=1).sum() == forced
