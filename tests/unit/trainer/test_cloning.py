"""Behaviour cloning: each algorithm acts as it was shown, with the statistics of what it was shown."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from aisandbox_crds import ALGORITHMS, Algorithm, DemonstrationSettings, parse_hyperparameters
from aisandbox_environment import DemonstrationFile, DemonstrationWriter, Episode, Spec, make_spec
from aisandbox_trainer.algorithms.builder import build, class_of
from aisandbox_trainer.algorithms.policy_choice import choose_policy
from aisandbox_trainer.cloning.clone import Cloning
from aisandbox_trainer.cloning.examples import Examples
from aisandbox_trainer.cloning.fit import check_compatible, check_memory_of_rows
from aisandbox_trainer.cloning.recorded_env import RecordedEnv, look_at
from aisandbox_trainer.cloning.replay import fill_replay_buffer
from aisandbox_trainer.environments.frame_stack import FrameStack
from aisandbox_trainer.environments.normalization import normalized
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import InvalidDemonstrations, StopRequested
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_wire import box, dict_space, discrete, multi_discrete, space_from_proto
from demonstration_files import write_demonstrations
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

CHOICE = make_spec(box((2,)), discrete(3, start=5))
MASKED = make_spec(box((2,)), discrete(3, start=5), action_masks=True)
PUSH = make_spec(box((2,)), box((1,), low=-4.0, high=2.0))
SMALL = {"policy_kwargs": "dict(net_arch=[16])", "seed": "1"}
REPLAY = {**SMALL, "buffer_size": "200", "batch_size": "8"}
LENGTHS = (30, 24, 26)
SLOW = (Algorithm.A2C, Algorithm.DQN, Algorithm.TQC, Algorithm.CROSSQ)
"""Those whose losses others have too."""


def choose(leaves: list[Any]) -> int:
    return 5 if leaves[0][0] > 0 else 7


def push(leaves: list[Any]) -> float:
    return 1.0 if leaves[0][0] > 0 else -3.0


def hyperparameters(algorithm: Algorithm, **more: str) -> Any:
    given = dict(REPLAY if ALGORITHMS[algorithm].off_policy else SMALL)
    given.pop("seed")
    if ALGORITHMS[algorithm].recurrent:
        given["policy_kwargs"] = "dict(net_arch=[16], lstm_hidden_size=8)"
    return parse_hyperparameters(algorithm, {**given, **more})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a trainer of small networks: on busy processors several are many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Case:
    """A model on environments that play the episodes of a file."""

    def __init__(self, algorithm: Algorithm, path: Path, wrap: Callable[[VecEnv], VecEnv] = lambda env: env) -> None:
        self.wrap = wrap
        self.file = DemonstrationFile(path.open("rb"))
        spec = self.file.spec
        self.adapter = SpaceAdapter(space_from_proto(spec.observation_space), space_from_proto(spec.action_space))
        env = wrap(RecordedEnv(self.file, self.file.read(), self.adapter))
        chosen = hyperparameters(algorithm)
        policy = choose_policy(algorithm, chosen.policy, self.adapter.observation_space)
        self.model: Any = build(class_of(algorithm, fast_update=False), chosen, policy, env, seed=3)
        self.model.set_logger(Logger(None, []))
        self.progress = ProgressTracker()

    def clone(
        self, epochs: int = 30, stop: Stop | None = None, *, batch_size: int = 16, learning_rate: float = 0.01
    ) -> None:
        settings = DemonstrationSettings("a.parquet", epochs, batch_size, learning_rate)
        Cloning(self.model, self.file, settings, self.wrap, 7, self.progress, stop or Stop()).run()


def world(algorithm: Algorithm) -> tuple[Spec, Any]:
    if ALGORITHMS[algorithm].has_critics:
        return PUSH, push
    return (MASKED if ALGORITHMS[algorithm].masks else CHOICE), choose


@pytest.mark.parametrize(
    "algorithm",
    [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in Algorithm],
)
def test_policy_acts_as_it_was_shown(algorithm: Algorithm, tmp_path: Path) -> None:
    spec, act = world(algorithm)
    case = Case(algorithm, write_demonstrations(tmp_path / "a", spec, act, LENGTHS, terminated=False))
    before = {name: value.clone() for name, value in case.model.policy.state_dict().items()}
    case.clone()
    recorded = DemonstrationFile((tmp_path / "a").open("rb")).read()
    rows = np.flatnonzero(~recorded.last)
    if ALGORITHMS[algorithm].recurrent:
        state, chosen, first = None, [], True
        for row in range(len(recorded.last)):
            action, state = case.model.predict(
                recorded.observations[0][row], state, np.array([first]), deterministic=True
            )
            chosen.append(action)
            first = bool(recorded.last[row])
        actions = np.array(chosen)[rows]
    else:
        actions = case.model.predict(recorded.observations[0][rows], deterministic=True)[0]
    shown = case.adapter.inverse_action(recorded.actions)[rows]
    side = 0.0 if ALGORITHMS[algorithm].has_critics else 0.9  # between the two actions that were shown
    assert ((actions.ravel() > side) == (shown.ravel() > side)).mean() > 0.9
    cloning = case.progress.cloning
    assert cloning is not None
    assert (cloning.epoch, cloning.epochs, cloning.episodes, cloning.steps) == (30, 30, 3, 80)
    assert cloning.loss is not None
    if ALGORITHMS[algorithm].off_policy:
        assert case.model.replay_buffer.size() == 80
        target = "quantile_net" if algorithm is Algorithm.QRDQN else "q_net" if algorithm is Algorithm.DQN else "actor"
        after = case.model.policy.state_dict()
        for name, value in after.items():
            if name.startswith(f"{target}_target."):
                assert torch.equal(value, after[name.replace("_target", "")]), name
    if "log_std" in before:
        assert torch.equal(before["log_std"], case.model.policy.log_std), "exploration stays"


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def draw_from_all() -> tuple[float, ...]:
    return float(torch.rand(1)), random.random(), float(np.random.random())


@pytest.mark.parametrize("algorithm", [Algorithm.PPO, Algorithm.RECURRENTPPO, Algorithm.QRDQN])
def test_cloning_begun_anew_ends_the_same(algorithm: Algorithm, tmp_path: Path) -> None:
    path = write_demonstrations(tmp_path / "a", CHOICE, choose)
    first, again = Case(algorithm, path), Case(algorithm, path)
    seed_all(1)
    expected = draw_from_all()
    for case in (first, again):
        seed_all(1)
        case.clone(2)
        assert draw_from_all() == expected, "no generator of the run is used"
    weights = again.model.policy.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.model.policy.state_dict().items())


def test_statistics_are_those_of_what_was_recorded(tmp_path: Path) -> None:
    path = write_demonstrations(tmp_path / "a", CHOICE, choose)
    normalize: Any = parse_hyperparameters(Algorithm.PPO, {"normalize": "True"}).normalize
    case = Case(Algorithm.PPO, path, lambda env: normalized(FrameStack(env, 2), normalize))
    case.clone(1)
    own: Any = case.model.get_vec_normalize_env()
    recorded = DemonstrationFile(path.open("rb")).read()
    newest = recorded.observations[0][~recorded.last | (np.arange(len(recorded.last)) == 0)]
    # A VecNormalize counts the first observation after the last episode too, and none that ends an episode.
    expected = np.concatenate([newest, recorded.observations[0][:1]])
    assert np.allclose(own.obs_rms.mean[2:], expected.mean(axis=0), atol=0.01)
    assert own.ret_rms.count > 30


def test_dict_and_stacked_frames_are_seen_through_the_wrappers(tmp_path: Path) -> None:
    spec = make_spec(dict_space({"kind": discrete(4), "place": box((2,))}), multi_discrete([2, 3]))
    path = write_demonstrations(tmp_path / "a", spec, lambda leaves: [leaves[0] % 2, leaves[0] % 3], (3, 2))
    case = Case(Algorithm.PPO, path)
    recorded = case.file.read()
    seen = look_at(RecordedEnv(case.file, recorded, case.adapter), recorded, original=False, check=lambda: None)
    assert (seen.observations["kind"] == recorded.observations[0]).all()
    assert (seen.observations["place"] == recorded.observations[1]).all()
    assert seen.scaled_rewards.tolist() == [1, 1, 1, 0, 1, 1, 0]
    case.clone(1)
    plain = DemonstrationFile(write_demonstrations(tmp_path / "b", CHOICE, choose, (2, 1)).open("rb"))
    read = plain.read()
    adapter = SpaceAdapter(space_from_proto(CHOICE.observation_space), space_from_proto(CHOICE.action_space))
    stacked = look_at(FrameStack(RecordedEnv(plain, read, adapter), 2), read, original=False, check=lambda: None)
    rows = read.observations[0]
    assert (stacked.observations[:, 2:] == rows).all()
    assert (stacked.observations[[0, 3], :2] == 0).all(), "an episode begins without the one before"
    assert (stacked.observations[[1, 2, 4], :2] == rows[[0, 1, 3]]).all()


def examples_of(path: Path, gamma: float = 0.5) -> Examples:
    file = DemonstrationFile(path.open("rb"))
    recorded = file.read()
    spec = file.spec
    adapter = SpaceAdapter(space_from_proto(spec.observation_space), space_from_proto(spec.action_space))
    seen = look_at(RecordedEnv(file, recorded, adapter), recorded, original=True, check=lambda: None)
    model: Any = SimpleNamespace(device=torch.device("cpu"), gamma=gamma, action_space=adapter.action_space)
    return Examples(model, seen, recorded, adapter, lambda: None)


def test_returns_end_with_the_episode_or_with_what_is_expected_after_it(tmp_path: Path) -> None:
    ended = examples_of(write_demonstrations(tmp_path / "a", CHOICE, choose, (2, 1)))
    ended.compute_returns(lambda observations: torch.full((len(observations),), 8.0))
    assert ended.returns.tolist() == [1.5, 1, 0, 1, 0]
    cut = examples_of(write_demonstrations(tmp_path / "b", CHOICE, choose, (2, 1), terminated=False))
    cut.compute_returns(lambda observations: torch.full((len(observations),), 8.0))
    assert cut.returns.tolist() == [3.5, 5, 0, 5, 0]


def test_replay_buffer_gets_whole_columns_of_the_newest_steps(tmp_path: Path) -> None:
    examples = examples_of(write_demonstrations(tmp_path / "a", PUSH, push, (4, 3, 4), terminated=False))
    adapter = SpaceAdapter(space_from_proto(PUSH.observation_space), space_from_proto(PUSH.action_space))
    buffer = ReplayBuffer(100, adapter.observation_space, adapter.action_space, "cpu", n_envs=2)
    model: Any = SimpleNamespace(replay_buffer=buffer)
    assert fill_replay_buffer(model, examples) == 10
    rows = examples.steps[1:].reshape(2, 5)
    assert buffer.pos == 5
    for column in (0, 1):
        assert (buffer.observations[:5, column] == examples.seen.observations[rows[column]]).all()
        assert (buffer.next_observations[:5, column] == examples.seen.observations[rows[column] + 1]).all()
        assert (buffer.actions[:5, column] == examples.actions[rows[column]]).all()
    assert buffer.timeouts[:5].sum() == buffer.dones[:5].sum() == 3
    assert np.allclose(np.abs(buffer.actions[:5]), 2 / 3), "between -1 and 1"


@pytest.mark.parametrize(
    ("own", "masks", "message"),
    [
        (
            make_spec(box((3,)), discrete(3, start=5)),
            False,
            "its observations are Box float32 [2], and the environment's",
        ),
        (
            make_spec(box((2,)), discrete(3)),
            False,
            "its actions are Discrete with 3 values from 5, and the environment's",
        ),
        (CHOICE, True, "the environment declares action masks, and it was recorded without"),
    ],
)
def test_demonstrations_of_another_environment_are_refused(
    own: Spec, masks: bool, message: str, tmp_path: Path
) -> None:
    file = DemonstrationFile(write_demonstrations(tmp_path / "a", CHOICE, choose, (2,)).open("rb"))
    adapter = SpaceAdapter(space_from_proto(own.observation_space), space_from_proto(own.action_space))
    with pytest.raises(InvalidDemonstrations) as caught:
        check_compatible(file, adapter, masks=masks)
    assert str(caught.value).startswith(message)


def test_more_rows_than_the_memory_holds_are_refused(tmp_path: Path) -> None:
    file = DemonstrationFile(write_demonstrations(tmp_path / "a", CHOICE, choose, (2,)).open("rb"))
    adapter = SpaceAdapter(space_from_proto(CHOICE.observation_space), space_from_proto(CHOICE.action_space))
    run = Algorithm.PPO, hyperparameters(Algorithm.PPO), 1
    check_memory_of_rows(file, adapter, *run, bound=1 << 30)
    with pytest.raises(InvalidDemonstrations, match=r"its 3 rows need .* bytes of memory"):
        check_memory_of_rows(file, adapter, *run, bound=1000)


def test_actions_beyond_the_bounds_of_the_environment_are_refused(tmp_path: Path) -> None:
    file = DemonstrationFile(write_demonstrations(tmp_path / "a", PUSH, push, (3,)).open("rb"))
    narrow = make_spec(box((2,)), box((1,), low=-1.0, high=0.5))
    with pytest.raises(Exception, match=r"row 0 \(episode 0, step 0\): action is outside of its space"):
        file.read(narrow)


def test_images_without_rewards_are_learned(tmp_path: Path) -> None:
    camera = make_spec(box((36, 36, 1), low=0, high=255, dtype=np.uint8), discrete(2))
    random = np.random.default_rng(0)
    path, actions = tmp_path / "a", random.integers(0, 2, 80)
    writer = DemonstrationWriter(path, camera, {})
    for first in (0, 40):
        chosen = actions[first : first + 40]
        images = random.integers(0, 60, (41, 36, 36, 1)).astype(np.uint8)
        images[:-1][chosen == 1, :, 18:] += 150
        writer.add(Episode(0, [images], chosen, np.zeros(40, np.float32), terminated=True, truncated=False))
    writer.close()
    case = Case(Algorithm.PPO, path)
    case.clone(6, learning_rate=0.001)
    recorded = DemonstrationFile(path.open("rb")).read()
    rows = np.flatnonzero(~recorded.last)
    played = case.model.predict(recorded.observations[0][rows], deterministic=True)[0]
    assert (played == actions).mean() > 0.9


@pytest.mark.parametrize("lengths", [(2, 1), (3, 2, 2)])
def test_crossq_never_learns_from_a_single_step(lengths: tuple[int, ...], tmp_path: Path) -> None:
    case = Case(Algorithm.CROSSQ, write_demonstrations(tmp_path / "a", PUSH, push, lengths))
    case.clone(2, batch_size=2)
    weights = case.model.policy.state_dict().values()
    assert all(torch.isfinite(value).all() for value in weights)


@pytest.mark.parametrize(
    ("lengths", "batch_size", "message"),
    [((5,), 1, "batch_size must be at least 2 with CrossQ"), ((1,), 16, "steps must be at least 2 with CrossQ")],
)
def test_crossq_refuses_minibatches_of_one_step(
    lengths: tuple[int, ...], batch_size: int, message: str, tmp_path: Path
) -> None:
    case = Case(Algorithm.CROSSQ, write_demonstrations(tmp_path / "a", PUSH, push, lengths))
    with pytest.raises(InvalidDemonstrations, match=message):
        case.clone(1, batch_size=batch_size)


def test_reading_and_computing_returns_follow_a_stop(tmp_path: Path) -> None:
    path = write_demonstrations(tmp_path / "a", PUSH, push)
    stop = Stop()
    stop.request()
    with pytest.raises(StopRequested):
        DemonstrationFile(path.open("rb")).read(check=stop.check)
    examples = examples_of(path)
    examples.check = stop.check
    with pytest.raises(StopRequested):
        examples.compute_returns(lambda observations: torch.zeros(len(observations)))
    adapter = SpaceAdapter(space_from_proto(PUSH.observation_space), space_from_proto(PUSH.action_space))
    buffer = ReplayBuffer(100, adapter.observation_space, adapter.action_space, "cpu")
    model: Any = SimpleNamespace(replay_buffer=buffer)
    with pytest.raises(StopRequested):
        fill_replay_buffer(model, examples)


def test_memory_of_rows_counts_the_copy_of_another_type(tmp_path: Path) -> None:
    need = {}
    for dtype in ("f4", "f8"):
        spec = make_spec(box((1000,), dtype=np.dtype(dtype)), discrete(3))
        path = write_demonstrations(tmp_path / dtype, spec, lambda leaves: 1, (20,))
        file = DemonstrationFile(path.open("rb"))
        adapter = SpaceAdapter(space_from_proto(spec.observation_space), space_from_proto(spec.action_space))
        with pytest.raises(InvalidDemonstrations) as caught:
            check_memory_of_rows(file, adapter, Algorithm.PPO, hyperparameters(Algorithm.PPO), 1, bound=1000)
        asked = re.search(r"its 21 rows need ([0-9,]+) bytes", str(caught.value))
        assert asked is not None
        need[dtype] = int(asked[1].replace(",", "")) - file.bytes_needed
    assert need["f8"] == need["f4"] + 21 * 4000
