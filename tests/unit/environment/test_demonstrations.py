"""Files of demonstrations: what is written is read, what is damaged or impossible is refused, by row."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from aisandbox_environment import (
    DemonstrationFile,
    DemonstrationWriter,
    Episode,
    InvalidDemonstrationFile,
    InvalidRecording,
    Parameter,
    RandomPolicy,
    ResetResult,
    Spec,
    StepResult,
    make_spec,
    read_recordings,
    record_episodes,
    replay_episodes,
)
from aisandbox_environment.demonstrations import writer as writing
from aisandbox_environment.demonstrations.reader import allows
from aisandbox_wire import InvalidValue, box, dict_space, discrete, multi_binary, multi_discrete

DRIVE = make_spec(
    dict_space({"camera": box((2, 2), dtype=np.uint8), "speed": box((), low=0.0, high=9.0)}),
    multi_discrete([3, 2]),
    action_masks=True,
)
TURN = make_spec(box((2,)), box((1,), low=-2.0, high=2.0))


def episode(spec: Spec, steps: int, first: int = 0) -> Episode:
    """Numbers that tell each row from the others."""
    observations = [
        (first + np.arange((steps + 1) * leaf.size) % 9).reshape(steps + 1, *leaf.shape).astype(leaf.dtype)
        for leaf in spec.observation_leaves
    ]
    masks = np.ones((steps, spec.mask_width), bool) if spec.action_masks else None
    actions = np.zeros((steps, *spec.action_leaf.shape), spec.action_leaf.dtype)
    return Episode(first, observations, actions, np.arange(steps, dtype=np.float32), first % 2 == 0, True, masks)


def written(path: Path, spec: Spec, *episodes: Episode) -> bytes:
    writer = DemonstrationWriter(path, spec, {"policy": "test"})
    for each in episodes:
        writer.add(each)
    writer.close()
    return path.read_bytes()


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidDemonstrationFile) as caught:
        DemonstrationFile(io.BytesIO(data)).read()
    return str(caught.value)


@pytest.mark.parametrize("spec", [DRIVE, TURN])
@pytest.mark.parametrize("group_bytes", [1, 1 << 20])
def test_file_has_every_row_of_every_episode(
    spec: Spec, group_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", group_bytes)
    episodes = [episode(spec, 3, 4), episode(spec, 1, 7)]
    data = written(tmp_path / "a.parquet", spec, *episodes)
    file = DemonstrationFile(io.BytesIO(data))
    assert (file.episodes, file.steps, file.rows, file.spec.to_proto()) == (2, 4, 6, spec.to_proto())
    read = file.read()
    for index, leaf in enumerate(read.observations):
        assert (leaf == np.concatenate([each.observations[index] for each in episodes])).all()
        assert leaf.dtype == spec.observation_leaves[index].dtype
    assert read.last.tolist() == [False, False, False, True, False, True]
    assert read.terminated.tolist() == [False, False, True, False, False, False]
    assert read.truncated.tolist() == [False, False, True, False, True, False]
    assert read.rewards.tolist() == [0, 1, 2, 0, 0, 0]
    assert (read.action_masks is not None) == spec.action_masks
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"], "nothing is left of the writing"


def test_other_tools_read_the_columns(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", DRIVE, episode(DRIVE, 2))
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == [
        *("episode", "seed", "observation/camera", "observation/speed", "action_mask", "action"),
        *("reward", "terminated", "truncated", "last"),
    ]
    assert table["observation/camera"].to_pylist()[0] == [0, 1, 2, 3]
    assert table.schema.field("observation/camera").metadata == {b"dtype": b"uint8", b"shape": b"[2, 2]"}
    header = json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"aisandbox.header"])
    assert (header["policy"], header["episodes"], header["steps"]) == ("test", 1, 2)


def test_damage_anywhere_is_noticed_or_changes_no_value(tmp_path: Path) -> None:
    data = written(tmp_path / "a.parquet", TURN, *(episode(TURN, 20, number) for number in range(5)))
    whole = DemonstrationFile(io.BytesIO(data)).read()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= 1 << random.integers(8)
        try:
            read = DemonstrationFile(io.BytesIO(bytes(damaged))).read()
        except InvalidDemonstrationFile:
            refused += 1
        else:  # what is not read: statistics, the name of the writer
            assert all((one == other).all() for one, other in zip(whole.observations, read.observations, strict=True))
            assert (read.actions == whole.actions).all()
    assert refused > 30
    assert "is damaged, or no Parquet file" in refusal(data[: len(data) // 2])
    assert "is damaged, or no Parquet file" in refusal(b"PAR1 and so on")


def test_parquet_file_of_something_else_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"action": [1, 2]}), tmp_path / "a.parquet")
    assert "is a Parquet file, and has no demonstrations" in refusal((tmp_path / "a.parquet").read_bytes())


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (TURN, {"actions": np.array([[0], [2.5]], np.float32)}, "row 4 (episode 1, step 1): action is outside of its"),
        (DRIVE, {"actions": np.array([[0, 0], [3, 0]])}, "row 4 (episode 1, step 1): action is outside of its space"),
        (DRIVE, {"actions": np.array([[0, -1], [0, 0]])}, "row 3 (episode 1, step 0): action is outside of its space"),
        (
            DRIVE,
            {"action_masks": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 1]], bool)},
            "row 4 (episode 1, step 1): action is forbidden by the mask: [0 0]",
        ),
        (TURN, {"rewards": np.array([0, np.inf], np.float32)}, "row 4 (episode 1, step 1): reward is not finite"),
        (TURN, {"observations": [np.full((3, 2), np.nan, np.float32)]}, "row 3 (episode 1, step 0): observation is"),
        (TURN, {"terminated": False, "truncated": False}, "has rows that are not whole episodes"),
    ],
)
def test_impossible_row_is_named(spec: Spec, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    wrong = replace(episode(spec, 2), **change)
    assert message in refusal(written(tmp_path / "a.parquet", spec, episode(spec, 2), wrong))


def test_file_without_an_episode_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no episode was recorded"):
        DemonstrationWriter(tmp_path / "a.parquet", TURN, {}).close()
    assert not list(tmp_path.iterdir())


class Counter:
    """A session whose environment counts its steps, and ends an episode after three; at odd ones 1 is forbidden."""

    spec = make_spec(box((1,)), discrete(3, start=1), action_masks=True, parameters=[Parameter("far", 1.0)])

    def __init__(self) -> None:
        self.count = 0
        self.seeds: list[int] = []
        self.parameters: Any = None

    def reset(self, seeds: list[int], parameters: Any = None) -> ResetResult:
        self.seeds += seeds
        self.parameters = parameters
        self.count = 0
        return ResetResult([self._observed()], self._mask())

    def step(self, actions: Any) -> StepResult:
        self.count += 1
        final, ended = self._observed(), self.count == 3
        self.count = 0 if ended else self.count
        flags, none = np.array([ended]), np.array([False])
        rewards = actions.astype(np.float32)
        return StepResult([self._observed()], rewards, none, flags, np.flatnonzero(flags), [final], self._mask())

    def _observed(self) -> Any:
        return np.array([[self.count]], np.float32)

    def _mask(self) -> Any:
        return np.array([[self.count % 2 == 0, True, True]])


def test_recording_keeps_what_was_seen_and_done() -> None:
    session: Any = Counter()
    seen = []

    def policy(observation: Any, mask: Any) -> int:
        seen.append((float(observation[0]), mask.tolist()))
        return 3

    first, second = record_episodes(session, policy, 2, seed=7)
    assert session.seeds == [7, 8]
    assert (first.seed, second.seed) == (7, 8)
    assert first.observations[0].ravel().tolist() == [0, 1, 2, 3], "the last one is not the first of the next episode"
    assert (first.actions.tolist(), first.rewards.tolist()) == ([3, 3, 3], [3, 3, 3])
    assert (first.terminated, first.truncated) == (False, True)
    assert first.action_masks is not None
    assert first.action_masks[:, 0].tolist() == [True, False, True]
    assert seen[1] == (1.0, [False, True, True])
    (cut,) = record_episodes(session, policy, 1, seed=0, max_steps=2)
    assert (cut.steps, cut.truncated) == (2, True)


@pytest.mark.parametrize(
    ("action", "message"),
    [(1, "the action of episode 0, step 1: is 1, which the mask forbids"), (4, "step 0: is 4, outside of its space")],
)
def test_impossible_action_of_a_policy_is_named(action: int, message: str) -> None:
    session: Any = Counter()
    with pytest.raises(InvalidValue) as caught:
        list(record_episodes(session, lambda observation, mask: action, 1, seed=0))
    assert message in str(caught.value)


NO_RECORDINGS: tuple[dict[str, Any], ...] = (
    {"seed": -1},
    {"seed": 2**64},
    {"seed": 1.5},
    {"seed": float("inf")},
    {"options": []},
    {"actions": ["1"]},
    {"actions": [["1"]]},
    {"actions": [[True]]},
    {"actions": [[10**400]]},
)


def recording(**fields: Any) -> str:
    """As EpisodeRecording.Save of the C# package writes it."""
    actions = [[2], [3], [2]]
    return json.dumps(
        {"format": 1, "simulation": "Counter", "seed": 2**64 - 1, "options": {}, "actions": actions} | fields
    )


def test_recordings_of_c_sharp_are_played_again(tmp_path: Path) -> None:
    (tmp_path / "2.json").write_text(recording(parameters={"far": 3}))
    (tmp_path / "1.json").write_text(recording(seed=5, actions=[[3.0], [2.0]]))
    session: Any = Counter()
    cut, whole = replay_episodes(session, read_recordings(tmp_path))
    assert (session.seeds, session.parameters) == ([5, 2**64 - 1], {0: {"far": 3}})
    assert (cut.actions.tolist(), cut.truncated) == ([3, 2], True)
    assert (whole.actions.tolist(), whole.rewards.tolist(), whole.seed) == ([2, 3, 2], [2, 3, 2], 2**64 - 1)
    writer = DemonstrationWriter(tmp_path / "a.parquet", session.spec, {})
    writer.add(whole)
    assert writer.close().steps == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.json: is no recording of an episode"),
        ("[1]", "is no recording of an episode"),
        (recording(actions=[2]), "is no recording of an episode"),
        *((recording(**fields), "a.json: is no recording of an episode") for fields in NO_RECORDINGS),
        ("[" * 200_000, "a.json: is no recording of an episode"),
        (recording(format=2), "its format is 2, this version reads 1"),
        (recording(problem="step 3: Step threw"), "is of an episode that failed: step 3: Step threw"),
        (recording(actions=[]), "has no step"),
        (recording(options={"level": 2}), "its options are {'level': 2}, those of 0.json {}"),
        (recording(actions=[[2]] * 4), "a.json: the episode ended after 3 of 4 recorded steps"),
        (recording(actions=[[2, 2]]), "action 0 has 2 numbers, the action space has shape []"),
        (recording(actions=[[2], [1]]), "the action of a.json, step 1: is 1, which the mask forbids"),
    ],
)
def test_recording_that_cannot_be_played_again_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(recording())
    (tmp_path / "a.json").write_text(text)
    session: Any = Counter()
    with pytest.raises((InvalidRecording, InvalidValue)) as caught:
        list(replay_episodes(session, read_recordings(tmp_path)))
    assert message in str(caught.value)


@pytest.mark.parametrize("space", [discrete(4, start=2), multi_discrete([2, 3]), multi_binary(3)])
def test_random_policy_stays_within_space_and_mask(space: Any) -> None:
    spec = make_spec(box((1,)), space, action_masks=True)
    policy: Callable[..., Any] = RandomPolicy(spec, 0)
    layout = spec.mask_layout
    random = np.random.default_rng(1)
    for _ in range(50):
        mask = random.random(layout.width) < 0.5
        mask[np.cumsum(layout.counts) - 1] = True  # each part allows something
        action = policy(np.zeros(1), mask)
        spec.action_leaf.check_batch(action[None], 1, "action")
        assert allows(layout, spec.action_leaf, mask[None], action[None]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8, np.int64])
def test_random_policy_reaches_all_of_a_box(dtype: Any) -> None:
    low, high = (-1, 1) if dtype is np.float32 else (0, 3) if dtype is np.uint8 else (-2, 2)
    spec = make_spec(box((1,)), box((2,), low=low, high=high, dtype=dtype))
    policy: Callable[..., Any] = RandomPolicy(spec, 0)
    actions = np.stack([policy(np.zeros(1), None) for _ in range(500)])
    spec.action_leaf.check_batch(actions, 500, "action")
    if dtype is np.float32:
        assert actions.min() < -0.9
        assert actions.max() > 0.9
    else:
        values, counts = np.unique(actions, return_counts=True)
        assert values.tolist() == list(range(low, high + 1))
        assert counts.min() > 0.5 * counts.mean(), "each value is about as frequent as others"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_writing_leaves_no_file(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DemonstrationWriter(tmp_path / "a.parquet", TURN, {})
    writer.add(episode(TURN, 2))

    def interrupted(table: Any) -> None:
        raise error

    monkeypatch.setattr(writing, "GROUP_BYTES", 1)
    monkeypatch.setattr(writer._writer, "write_table", interrupted)
    with pytest.raises(error):
        writer.add(episode(TURN, 2))
    assert (writer.episodes, list(tmp_path.iterdir())) == (0, [])
    with pytest.raises(ValueError, match="no episode was recorded"):
        writer.close()


def test_memory_to_read_is_bounded_before_it_is_taken(tmp_path: Path) -> None:
    camera = make_spec(box((64, 64, 3), dtype=np.uint8), discrete(3))
    path = tmp_path / "a.parquet"
    written(path, camera, episode(camera, 300))
    program = (
        "import sys, pyarrow\n"
        "from aisandbox_environment import DemonstrationFile\n"
        "file = DemonstrationFile(open(sys.argv[1], 'rb'))\n"
        "read = file.read()\n"
        "kept = sum(each.nbytes for each in read.observations)\n"
        "print(kept, pyarrow.default_memory_pool().max_memory(), file.bytes_needed)\n"
    )
    output = subprocess.run([sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True)
    kept, decoding, needed = map(int, output.stdout.split())
    assert kept + decoding <= needed <= kept + 64 * 1024 * 1024
