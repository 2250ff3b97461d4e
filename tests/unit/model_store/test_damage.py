"""Files that are not what was published are found out, and nothing else is lost."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aisandbox_model_store import CheckpointKey, Damaged, ModelNotFound, Published, RunFolder
from aisandbox_model_store.checksummed_json import encode
from aisandbox_model_store.manifest import FileEntry, entry_of

FILES = {"policy.onnx": b"p" * 5000, "golden.json": b"g" * 5000}


def truncate(folder: Path) -> None:
    with open(folder / "policy.onnx", "r+b") as file:
        file.truncate(4999)


def truncate_to_nothing(folder: Path) -> None:
    (folder / "policy.onnx").write_bytes(b"")


def flip_one_bit(folder: Path) -> None:
    with open(folder / "golden.json", "r+b") as file:
        file.seek(4999)
        file.write(bytes([b"g"[0] ^ 1]))


def append(folder: Path) -> None:
    with open(folder / "policy.onnx", "ab") as file:
        file.write(b"!")


def lose_a_file(folder: Path) -> None:
    (folder / "golden.json").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "extra.onnx").write_bytes(b"")


def swap_files(folder: Path) -> None:
    (folder / "policy.onnx").rename(folder / "x")
    (folder / "golden.json").rename(folder / "policy.onnx")
    (folder / "x").rename(folder / "golden.json")


def link_a_file(folder: Path) -> None:
    (folder / "golden.json").rename(folder.parent / "elsewhere")
    (folder / "golden.json").symlink_to(folder.parent / "elsewhere")


DAMAGE = [truncate, truncate_to_nothing, flip_one_bit, append, lose_a_file, add_a_file, swap_files, link_a_file]


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_the_manifest(folder: Path) -> None:
    with open(folder / "manifest.json", "r+b") as file:
        file.truncate(100)


def empty_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


def point_the_manifest_outside(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    document["files"]["../secret"] = {"size": 1, "sha256": ""}
    del document["checksum"]
    (folder / "manifest.json").write_bytes(encode(document))


def take_the_manifest_of_another_step(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    del document["checksum"]
    (folder / "manifest.json").write_bytes(encode({**document, "timesteps": 1}))


MANIFEST_DAMAGE = [
    lose_the_manifest,
    cut_the_manifest,
    empty_the_manifest,
    point_the_manifest_outside,
    take_the_manifest_of_another_step,
]


def publish_checkpoint(run: RunFolder, step: int) -> Published:
    def write(folder: Path) -> None:
        for name, data in FILES.items():
            (folder / name).write_bytes(data)

    return run.claim(1).publish_checkpoint(step, write)


@pytest.mark.parametrize("damage", DAMAGE)
def test_model_damaged_on_disk_is_never_returned(run: RunFolder, damage: Callable[[Path], None]) -> None:
    writer = run.claim(1)
    published = writer.publish_model(100, FILES)
    writer.point("latest", published)
    assert run.load_model("latest").files == FILES

    damage(published.path)
    with pytest.raises(Damaged, match=r"policy\.onnx|golden\.json|extra\.onnx"):
        run.load_model("latest")


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_model_with_a_damaged_manifest_is_never_returned(run: RunFolder, damage: Callable[[Path], None]) -> None:
    writer = run.claim(1)
    published = writer.publish_model(100, FILES)
    writer.point("latest", published)

    damage(published.path)
    with pytest.raises((Damaged, ModelNotFound)):
        run.load_model("latest")
    with pytest.raises(ModelNotFound):
        run.load_model("step:100")


@pytest.mark.parametrize("damage", [*DAMAGE, *MANIFEST_DAMAGE])
def test_damaged_checkpoint_is_renamed_and_the_older_one_used(run: RunFolder, damage: Callable[[Path], None]) -> None:
    oldest, older, newest = (publish_checkpoint(run, step) for step in (100, 900, 1000))
    damage(newest.path)

    assert run.newest_checkpoint() == older
    aside = [name for name in os.listdir(run.checkpoints_path) if name.startswith("damaged-1000-")]
    assert len(aside) == 1
    assert (run.checkpoints_path / aside[0] / "reason.txt").read_text().strip()
    assert run.checkpoints() == [older, oldest]
    assert run.newest_checkpoint() == older


def disk_that_fails(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int, times: int) -> None:
    """Reading the files of ``folder`` fails with the error ``number``, ``times`` times."""
    left = [times]

    def fail_or_read(path: Path, below: Path | None = None) -> FileEntry:
        if path.parent == folder and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number), str(path))
        return entry_of(path, below)

    monkeypatch.setattr("aisandbox_model_store.manifest.entry_of", fail_or_read)


def test_checkpoint_that_cannot_be_read_is_renamed(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newest = (publish_checkpoint(run, step) for step in (100, 200))
    disk_that_fails(monkeypatch, newest.path, errno.EIO, 10)
    told: list[tuple[str, str]] = []
    assert run.newest_checkpoint(lambda name, reason: told.append((name, reason))) == older
    assert told == [("200", f"it cannot be read: {os.strerror(errno.EIO)}")]
    assert [name for name in os.listdir(run.checkpoints_path) if name.startswith("damaged-200-")]


@pytest.mark.parametrize(("number", "times"), [(errno.EIO, 1), (errno.EACCES, 1)])
def test_checkpoint_is_kept_after_a_transient_error(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, number: int, times: int
) -> None:
    _, newest = (publish_checkpoint(run, step) for step in (100, 200))
    disk_that_fails(monkeypatch, newest.path, number, times)
    with contextlib.suppress(PermissionError):  # the attempt fails, and the next one reads it
        run.newest_checkpoint()
    assert run.newest_checkpoint() == newest


def test_failing_disk_renames_no_checkpoint(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    only = publish_checkpoint(run, 100)
    disk_that_fails(monkeypatch, only.path, errno.EIO, 10)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        run.newest_checkpoint()
    monkeypatch.undo()
    assert run.newest_checkpoint() == only


def test_file_in_the_place_of_a_checkpoint_is_renamed(run: RunFolder) -> None:
    older = publish_checkpoint(run, 100)
    (run.checkpoints_path / "200").write_text("")
    assert run.newest_checkpoint() == older
    assert run.newest_checkpoint() == older


def test_folder_in_the_place_of_a_pointer_is_damage(run: RunFolder) -> None:
    run.claim(1).publish_model(100, FILES)
    (run.models_path / "latest").mkdir()
    with pytest.raises(Damaged, match="cannot be read"):
        run.pointer("latest")


def test_checkpoints_all_damaged_give_none(run: RunFolder) -> None:
    for step in (1, 2):
        flip_one_bit(publish_checkpoint(run, step).path)
    told: list[tuple[str, str]] = []
    assert run.newest_checkpoint(lambda name, reason: told.append((name, reason))) is None
    assert [name for name, _ in told] == ["2", "1"]
    assert all(reason for _, reason in told)


def test_manifest_swapped_with_a_valid_one_is_damage(run: RunFolder) -> None:
    writer = run.claim(1)
    published = writer.publish_model(100, FILES)
    other = writer.publish_model(100, {"policy.onnx": b"other"})
    writer.point("latest", published)
    for path in published.path.iterdir():
        path.unlink()
    for path in other.path.iterdir():
        (published.path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(Damaged, match="not the one that 'latest' points to"):
        run.model("latest")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"folder": "../../x", "timesteps": 1, "digest": "d"}', "\x00"]
)
def test_damaged_pointer_is_an_error(run: RunFolder, text: str) -> None:
    run.claim(1).publish_model(100, FILES)
    (run.models_path / "latest").write_text(text)
    with pytest.raises(Damaged, match="not a pointer"):
        run.model("latest")
    assert run.model("step:100").timesteps == 100


def flipped(data: bytes) -> Iterator[bytes]:
    """``data`` with each of its bits flipped."""
    for place in range(len(data)):
        for bit in range(8):
            yield data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def test_every_flipped_bit_of_a_manifest_is_found(run: RunFolder) -> None:
    published = run.claim(1).publish_model(100, FILES, {"reward": "17.5"})
    manifest = published.path / "manifest.json"
    for data in flipped(manifest.read_bytes()):
        manifest.write_bytes(data)
        assert run.models() == [], data


def test_every_flipped_bit_of_a_pointer_is_found(run: RunFolder) -> None:
    writer = run.claim(1)
    writer.point("best", writer.publish_model(100, FILES), 17.5)
    pointer = run.models_path / "best"
    for data in flipped(pointer.read_bytes()):
        pointer.write_bytes(data)
        with pytest.raises(Damaged):
            run.pointer("best")


def test_pointer_in_the_place_of_another_is_found(run: RunFolder) -> None:
    writer = run.claim(1)
    writer.point("best", writer.publish_model(100, FILES), 17.5)
    (run.models_path / "best").rename(run.models_path / "final")
    with pytest.raises(Damaged, match="it is the pointer 'best'"):
        run.model("final")


def test_files_without_checksums_from_the_first_versions_are_read(run: RunFolder) -> None:
    writer = run.claim(1)
    published = writer.publish_model(100, FILES)
    document = json.loads((published.path / "manifest.json").read_bytes())
    del document["checksum"]
    data = json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"
    (published.path / "manifest.json").write_bytes(data)
    old = {"folder": "100", "timesteps": 100, "digest": run.models()[0].digest, "reward_mean": None}
    (run.models_path / "latest").write_text(json.dumps(old))
    assert run.load_model("latest").published.digest == "sha256:" + hashlib.sha256(data).hexdigest()


HOSTILE = [
    ("timesteps", float("inf")),
    ("timesteps", float("nan")),
    ("timesteps", 10**30),
    ("details", {"hmac-sha256": "\ud800"}),
    ("details", {"hmac-sha256": "ä" * 64}),
    ("files", {"state.pkl": {"size": float("inf"), "sha256": ""}}),
    ("files", {"state.pkl": {"size": 10**30, "sha256": ""}}),
    ("files", {"state.pkl": {"size": -2, "sha256": ""}}),
    ("files", {"\ud800": {"size": 1, "sha256": ""}}),
]


def write_by_hand(folder: Path, key: str, value: object) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    del document["checksum"]
    (folder / "manifest.json").write_bytes(encode({**document, key: value}))


@pytest.mark.parametrize(("key", "value"), HOSTILE, ids=ascii)
def test_manifest_that_somebody_has_made_stops_no_trainer(run: RunFolder, key: str, value: object) -> None:
    secret = CheckpointKey(b"k" * 32)
    writer = run.claim(1, key=secret)
    older, newest = (writer.publish_checkpoint(step, lambda folder: (folder / "state.pkl").touch()) for step in (1, 2))
    write_by_hand(newest.path, key, value)
    assert run.newest_checkpoint(key=secret) == older


@pytest.mark.parametrize(("key", "value"), [each for each in HOSTILE if each[0] != "details"], ids=ascii)
def test_model_whose_manifest_somebody_has_made_is_damaged(run: RunFolder, key: str, value: object) -> None:
    writer = run.claim(1)
    writer.point("latest", published := writer.publish_model(2, FILES))
    write_by_hand(published.path, key, value)
    assert run.models() == []
    with pytest.raises(Damaged, match="not a manifest"):
        run.model("latest")
    assert writer.retain_models(1) == []


@pytest.mark.parametrize("key", ["timesteps", "reward_mean"])
def test_pointer_to_no_number_is_damaged(run: RunFolder, key: str) -> None:
    writer = run.claim(1)
    writer.point("latest", writer.publish_model(2, FILES), 1.0)
    path = run.models_path / "latest"
    document = json.loads(path.read_bytes())
    del document["checksum"]
    path.write_bytes(encode({**document, key: float("inf") if key == "timesteps" else 10**400}))
    with pytest.raises(Damaged, match="not a pointer"):
        run.model("latest")
