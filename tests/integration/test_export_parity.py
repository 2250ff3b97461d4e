"""The exported ONNX file, run by ONNX Runtime, acts as stable-baselines3's ``predict`` does."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch as th
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_trainer.algorithms.builder import PLAIN
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.export.action_masks import sample_masks
from dotnet_policies import chosen
from exported_policies import (
    ACTIONS,
    CASES,
    OBSERVATIONS,
    ROWS,
    Array,
    Case,
    Exported,
    export,
    exported_as_is,
    last_layer,
    name_of,
    observations,
    policy_input,
)
from gymnasium import spaces
from masked_worlds import COUNTS, choices
from sb3_contrib import TQC, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution


def test_every_algorithm_and_space_is_compared_here_and_in_csharp() -> None:
    """dotnet_policies.py chooses from these cases; an algorithm that is added needs some."""
    algorithms = set(PLAIN.values())
    for cases in (CASES, list(filter(chosen, CASES))):
        assert {case.algorithm for case in cases} == algorithms
        assert {case.observation for case in cases} == set(OBSERVATIONS)
        assert {case.action for case in cases} == set(ACTIONS)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_exported_policy_predicts_as_sb3(case: Case) -> None:
    exported = export(case)
    rows = observations(exported.observed, ROWS, np.random.default_rng(11))

    actions = exported.act(rows)

    expected = exported.predict(rows)
    assert actions.dtype == (np.float32 if case.action == "box" else np.int64)
    assert actions.shape == expected.shape
    if case.action == "box":
        space = exported.action_space
        assert isinstance(space, spaces.Box)
        extent = space.high - space.low  # of an action, in which tanh leaves the rounding of the means
        np.testing.assert_allclose(actions / extent, expected / extent, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(expected.reshape(ROWS, -1), axis=0)) > 1, "a constant policy would prove nothing"
    one: Any = {key: value[:1] for key, value in rows.items()} if isinstance(rows, dict) else rows[:1]
    np.testing.assert_allclose(exported.act(one), actions[:1], rtol=1e-5, atol=1e-5)
    assert_golden_rows_replay(exported)


@pytest.mark.parametrize("case", [case for case in CASES if case.algorithm is MaskablePPO], ids=name_of)
def test_exported_policy_with_masks_predicts_as_sb3_contrib(case: Case) -> None:
    exported = export(case)
    random = np.random.default_rng(11)
    rows = observations(exported.observed, ROWS, random)
    masks = sample_masks(COUNTS[case.action], ROWS, random)

    actions = exported.act(rows, masks=masks)

    np.testing.assert_array_equal(actions, exported.predict(rows, masks=masks.astype(bool)))
    assert not np.array_equal(actions, exported.act(rows)), "masks that change nothing would prove nothing"
    np.testing.assert_array_equal(exported.act(rows, masks=np.ones((1, masks.shape[1]))), exported.act(rows))
    loud = 1e30 * random.standard_normal((ROWS, exported.description.noise_size))
    loud[::2] = np.sign(loud[::2]) * np.inf
    for chosen_ones in (actions, exported.act(rows, loud, masks)):
        assert all(mask[choices(case.action, one)].all() for mask, one in zip(masks, chosen_ones, strict=True))
    masked = tensor(json.loads(exported.files["golden.json"])["action_mask"])
    assert masked.shape[1] == exported.description.mask_size == masks.shape[1]
    assert masked.all(axis=1).any()
    assert not masked.all()


def assert_golden_rows_replay(exported: Exported) -> None:
    golden = json.loads(exported.files["golden.json"])
    state_inputs = {*(state.name for state in exported.description.state), "episode_start"}
    names = [value.name for value in exported.session.get_inputs() if value.name not in state_inputs]
    feed = {name: tensor(value) for name, value in zip(names, golden["observations"], strict=True)}
    noise = tensor(golden["noise"])
    actions = tensor(golden["actions"])
    assert len(noise) >= 4
    assert not noise[0].any()
    assert noise.any()
    if "action_mask" in golden:
        feed["action_mask"] = tensor(golden["action_mask"])
    assert ("episode_start" in golden) == (len(state_inputs) > 1)
    if "episode_start" in golden:
        replayed = replayed_in_order(exported, {**feed, "noise": noise}, tensor(golden["episode_start"]))
    else:
        replayed = exported.session.run(["action"], {**feed, "noise": noise})[0]
    assert replayed.dtype == actions.dtype
    np.testing.assert_allclose(replayed, actions, rtol=1e-4, atol=1e-4)


def replayed_in_order(exported: Exported, feed: dict[str, Array], starts: Array) -> Array:
    states = exported.description.state
    assert starts[0] == 1
    assert starts.sum() == 2
    state = {each.name: np.full((1, *each.shape), np.nan, np.float32) for each in states}  # a start clears it
    outputs = ["action", *(f"next_{each.name}" for each in states)]
    actions = []
    for row in range(len(starts)):
        one = {name: value[row : row + 1] for name, value in feed.items()}
        action, *following = exported.session.run(outputs, {**one, **state, "episode_start": starts[row : row + 1]})
        state = dict(zip(state, following, strict=True))
        actions.append(action)
    return np.concatenate(actions)


def tensor(value: dict[str, Any]) -> Array:
    data = base64.b64decode(value["data"])
    return np.frombuffer(data, np.dtype(value["dtype"]).newbyteorder("<")).reshape(value["shape"])


@pytest.mark.parametrize("case", [case for case in CASES if case.algorithm is RecurrentPPO], ids=name_of)
def test_exported_recurrent_policy_acts_through_episodes_as_sb3(case: Case) -> None:
    """Three episodes at a time, one of which begins anew in the middle; modes and, of Box actions, samples."""
    exported = export(case)
    random = np.random.default_rng(5)
    sampled = case.action == "box" and not case.keywords
    kept: Any = None
    state: Any = None
    seen = []
    for step in range(8):
        rows = observations(exported.observed, 3, random)
        starts = np.full(3, step == 0) | np.array([False, step == 4, False])
        th.manual_seed(step)
        noise = th.normal(th.zeros(3, 3), th.ones(3, 3)).numpy() if sampled else None
        actions, kept = exported.act_in_episode(rows, kept, noise, starts)
        th.manual_seed(step)
        shown = policy_input(exported.model, exported.observed, rows)
        predicted, state = exported.model.predict(shown, state, starts, deterministic=not sampled)
        expected = SpaceAdapter(exported.observed, exported.action_space).action(predicted)
        np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(kept, state, strict=True):
            np.testing.assert_allclose(ours, theirs.swapaxes(0, 1), rtol=1e-4, atol=1e-5)
        seen.append(kept[0])
    assert np.ptp(np.array(seen), axis=0).min() > 0
    description = exported.description.state
    assert [(each.name, *each.shape) for each in description] == [
        (name, *kept[0].shape[1:]) for name in ("state_h", "state_c")
    ]


@pytest.mark.parametrize("algorithm", [PPO, SAC, TQC, CrossQ])
@pytest.mark.parametrize("normalize", [None, {}], ids=["plain", "normalized"])
def test_exported_box_policy_given_sb3s_noise_samples_sb3s_actions(
    normalize: dict[str, Any] | None, algorithm: type[BaseAlgorithm]
) -> None:
    exported = export(Case(algorithm, "vector", "box", normalize=normalize))
    rows = observations(exported.observed, ROWS, np.random.default_rng(11))
    th.manual_seed(3)
    expected = exported.predict(rows, deterministic=False)

    th.manual_seed(3)
    noise = th.normal(th.zeros(ROWS, 3), th.ones(ROWS, 3)).numpy()

    assert exported.description.noise_kind == pb.NOISE_KIND_NORMAL
    np.testing.assert_allclose(exported.act(rows, noise), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - exported.predict(rows)).max() > 0.1


def test_exported_td3_policy_is_the_same_with_and_without_noise() -> None:
    exported = export(Case(TD3, "vector", "box"))
    rows = observations(exported.observed, ROWS, np.random.default_rng(11))
    actions = exported.act(rows)
    assert (exported.description.noise_kind, exported.description.noise_size) == (pb.NOISE_KIND_NORMAL, 3)
    np.testing.assert_array_equal(exported.act(rows, np.full((ROWS, 3), 5.0)), actions)
    np.testing.assert_allclose(exported.predict(rows, deterministic=False), actions, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "kwargs"),
    [
        *((PPO, {"squash_output": squash, "full_std": full}) for squash in (False, True) for full in (False, True)),
        (SAC, {}),
    ],
    ids=str,
)
def test_exported_gsde_policy_samples_sb3s_distribution(algorithm: type[BaseAlgorithm], kwargs: dict[str, Any]) -> None:
    exported = export(Case(algorithm, "vector", "box", keywords={"use_sde": True}, policy_kwargs=kwargs))
    policy: Any = getattr(exported.model.policy, "actor", exported.model.policy)
    with th.no_grad():
        # Means well inside the bounds, where clipping hides nothing.
        for parameter in last_layer(exported.model.policy).parameters():
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


@pytest.mark.parametrize("algorithm", [A2C, MaskablePPO])
@pytest.mark.parametrize("action", ["discrete", "multi_discrete", "multi_binary"])
def test_exported_policy_given_noise_samples_the_policys_probabilities(
    action: str, algorithm: type[BaseAlgorithm]
) -> None:
    exported = export(Case(algorithm, "dict", action))
    draws, random = 20_000, np.random.default_rng(2)
    one = observations(exported.observed, 1, np.random.default_rng(13))
    rows = {key: np.repeat(value, draws, axis=0) for key, value in one.items()}
    policy: Any = exported.model.policy
    mask = sample_masks(COUNTS[action], 1, random) if algorithm is MaskablePPO else None
    with th.no_grad():
        for parameter in policy.action_net.parameters():
            parameter.mul_(0.3)
        shown_rows, _ = policy.obs_to_tensor(policy_input(exported.model, exported.observed, one))
        if mask is None:
            found: Any = policy.get_distribution(shown_rows).distribution
        else:
            distribution = policy.get_distribution(shown_rows, mask)
            found = distribution.distributions if action != "discrete" else distribution.distribution
    parts = found if isinstance(found, list) else [found]
    probabilities = [part.probs[0].numpy() for part in parts]
    exported = exported_as_is(exported.model, exported.observed, exported.action_space, exported.normalize)
    size = exported.description.noise_size
    kind = exported.description.noise_kind
    if action == "multi_binary":
        assert (kind, size) == (pb.NOISE_KIND_LOGISTIC, 3)
        noise = random.logistic(size=(draws, size))
        if mask is None:
            probabilities = [np.array([1 - p, p]) for p in probabilities[0]]
    else:
        assert (kind, size) == (pb.NOISE_KIND_GUMBEL, sum(len(p) for p in probabilities))
        noise = random.gumbel(size=(draws, size))

    actions = exported.act(rows, noise, mask).reshape(draws, -1)

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
