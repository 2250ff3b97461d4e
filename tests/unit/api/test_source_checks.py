"""What a run may start from: the checks of a start call, by field."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aisandbox_api import source_checks
from aisandbox_api.errors import InvalidRequest
from aisandbox_api.source_checks import check_source, demonstrations_digest, starting_digest, with_digests
from aisandbox_crds.spec import Algorithm, DemonstrationSettings, StartFrom, TakenPart, TrainingRunSpec
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_environment import FakeExternalEnvAdapter
from aisandbox_environment.spec import make_spec
from aisandbox_model_store import LEARNER_FILE, Published, RunStore
from aisandbox_wire import box, discrete
from google.protobuf.json_format import MessageToDict

SPEC = TrainingRunSpec(Algorithm.PPO, 100, start_from=StartFrom("first"))


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def model(store: RunStore) -> Published:
    writer = store.run("first").claim(None)
    old = writer.publish_model(100, {"policy.onnx": b"old"})
    writer.publish_weights(old, {"weights.npz": b"0"})
    model = writer.publish_model(200, {"policy.onnx": b"new"})
    writer.publish_weights(model, {"weights.npz": b"1"})
    writer.point("latest", model)
    writer.publish_checkpoint(200, lambda folder: _write(folder / "model.zip", b"2"))
    return model


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def file_digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def write_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", b"weights")
    return path.read_bytes()


def test_digest_is_that_of_what_is_named(store: RunStore, model: Published) -> None:
    run = store.run("first")
    assert starting_digest(store, StartFrom("first")) == model.digest
    assert starting_digest(store, StartFrom("first", "step:100")) == run.model("step:100").digest
    assert starting_digest(store, StartFrom("first", digest=model.digest)) == model.digest
    assert starting_digest(store, StartFrom("first", checkpoint="latest")) == run.checkpoint("latest").digest
    run.claim(None).point("final", run.model("step:100"))
    assert starting_digest(store, StartFrom("first")) == run.model("step:100").digest, "the end of a run comes first"
    write_zip(store.models_dir / "a.zip")
    digest = file_digest(store.models_dir / "a.zip")
    assert starting_digest(store, StartFrom(zip="a.zip", digest=digest)) == digest


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (StartFrom("second"), "start_from.run: run 'second' does not exist"),
        (StartFrom("first", "final"), "start_from.model: run 'first' has no model 'final'"),
        (StartFrom("first", digest=f"sha256:{'0' * 64}"), "start_from.digest: run 'first' has no model 'sha256:0"),
        (StartFrom("second", "latest", digest=f"sha256:{'0' * 64}"), "start_from.run: run 'second' does not exist"),
        (StartFrom("second", checkpoint="latest"), "start_from.run: run 'second' does not exist"),
        (StartFrom("first", "best"), "start_from.model: run 'first' has no model 'best'"),
        (StartFrom("first", checkpoint="step:7"), "start_from.checkpoint: run 'first' has no checkpoint 'step:7'"),
        (StartFrom(zip="b.zip"), "start_from.zip: there is no file 'b.zip'"),
        (StartFrom(zip="text/b.zip"), "start_from.zip: there is no file 'text/b.zip'"),
        (StartFrom(zip="out/b.zip"), "start_from.zip: must not leave MODELS_DIR through a link"),
        (StartFrom(zip="folder"), "start_from.zip: must name a file, and is a folder"),
        (StartFrom(zip="pipe"), "start_from.zip: must name a regular file, and is a pipe, a socket or a device"),
        (StartFrom(zip="loop"), "start_from.zip: cannot be resolved: its links are a loop"),
        (StartFrom(zip="text"), "start_from.zip: 'text' is not a zip file, or is damaged"),
        (StartFrom(zip="cut.zip"), "start_from.zip: 'cut.zip' is not a zip file, or is damaged"),
        (StartFrom(zip="a.zip", digest=f"sha256:{'0' * 64}"), "start_from.digest: the file has the digest sha256:"),
    ],
)
def test_what_is_not_there_is_refused_by_its_field(
    start: StartFrom, message: str, store: RunStore, model: Published
) -> None:
    (store.models_dir / "out").symlink_to("/tmp")
    (store.models_dir / "folder").mkdir()
    os.mkfifo(store.models_dir / "pipe")
    (store.models_dir / "loop").symlink_to("loop")
    _write(store.models_dir / "text", b"weights")
    _write(store.models_dir / "cut.zip", write_zip(store.models_dir / "a.zip")[:-1])
    assert message in refused(starting_digest, store, start)


def test_what_is_damaged_or_has_no_weights_is_refused(store: RunStore, model: Published) -> None:
    weights = store.run("first").weights_of(model).path
    (weights / "weights.npz").unlink()
    assert "weights.npz is missing" in refused(starting_digest, store, StartFrom("first"))
    store.run("first").claim(None).publish_model(300, {"policy.onnx": b"earlier version"})
    text = refused(starting_digest, store, StartFrom("first", "step:300"))
    assert "its weights are not published; a checkpoint has them too" in text


def test_weights_are_removed_with_their_model(store: RunStore, model: Published) -> None:
    writer = store.run("first").claim(None)
    assert sorted(writer.retain_models(1)) == ["models/100", "weights/100"]
    assert starting_digest(store, StartFrom("first")) == model.digest


def test_run_of_another_algorithm_or_without_normalization_is_refused() -> None:
    source = TrainingRun("first", TrainingRunSpec(Algorithm.PPO, 100))
    check_source(SPEC, source)
    text = refused(check_source, replace(SPEC, algorithm=Algorithm.A2C), source)
    assert text == "start_from.run: 'first' is trained with PPO, and this run with A2C"
    asking = replace(SPEC, start_from=StartFrom("first", take=(TakenPart.NORMALIZATION,)))
    assert "start_from.take: 'first' is trained without normalize" in refused(check_source, asking, source)
    check_source(asking, replace(source, spec=replace(source.spec, hyperparameters={"normalize": "True"})))


@pytest.mark.parametrize(
    ("demonstrations", "message"),
    [
        (DemonstrationSettings("b.parquet"), "there is no file 'b.parquet' in MODELS_DIR"),
        (DemonstrationSettings("out/b.parquet"), "must not leave MODELS_DIR through a link"),
        (DemonstrationSettings("folder"), "must name a file, and is a folder"),
        (
            DemonstrationSettings("text"),
            "'text' is not a Parquet file, or is damaged: `aisandbox record` writes demonstrations",
        ),
        (DemonstrationSettings("text/b.parquet"), "there is no file 'text/b.parquet' in MODELS_DIR"),
        (DemonstrationSettings("short.parquet"), "'short.parquet' is not a Parquet file, or is damaged"),
        (DemonstrationSettings("cut.parquet"), "'cut.parquet' is not a Parquet file, or is damaged"),
    ],
)
def test_file_of_demonstrations_is_one_in_the_volume(
    demonstrations: DemonstrationSettings, message: str, store: RunStore
) -> None:
    (store.models_dir / "out").symlink_to("/tmp")
    (store.models_dir / "folder").mkdir()
    _write(store.models_dir / "text", b"episode,action")
    _write(store.models_dir / "cut.parquet", b"PAR1...PAR")
    _write(store.models_dir / "short.parquet", b"PAR1")
    _write(store.models_dir / "a.parquet", b"PAR1....PAR1")
    found = file_digest(store.models_dir / "a.parquet")
    assert demonstrations_digest(store, DemonstrationSettings("a.parquet", digest=found)) == found
    other = DemonstrationSettings("a.parquet", digest=f"sha256:{'0' * 64}")
    assert refused(demonstrations_digest, store, other) == f"demonstrations.digest: the file has the digest {found}"
    text = refused(demonstrations_digest, store, demonstrations)
    assert text.startswith("demonstrations.file: ")
    assert message in text


def test_digest_of_a_large_file_is_left_to_the_trainer(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = store.models_dir, f"sha256:{'0' * 64}"
    write_zip(folder / "a.zip")
    _write(folder / "a.parquet", b"PAR1....PAR1")
    _write(folder / "text", b"episode,action")

    def of_demonstrations(file: str, digest: str = "") -> str:
        return demonstrations_digest(store, DemonstrationSettings(file, digest=digest))

    def of_zip(file: str, digest: str = "") -> str:
        return starting_digest(store, StartFrom(zip=file, digest=digest))

    for digest_of, file in ((of_demonstrations, "a.parquet"), (of_zip, "a.zip")):
        size = (folder / file).stat().st_size
        monkeypatch.setattr(source_checks, "LARGEST_DIGESTED", size)
        assert digest_of(file) == file_digest(folder / file)
        assert "the file has the digest" in refused(digest_of, file, asked)
        monkeypatch.setattr(source_checks, "LARGEST_DIGESTED", size - 1)
        assert digest_of(file) == ""
        assert digest_of(file, asked) == asked
        monkeypatch.setattr(source_checks, "LARGEST_DIGESTED", 1)
        assert "or is damaged" in refused(digest_of, "text"), "the first and last bytes are looked at all the same"


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, start_from=StartFrom(zip="a.zip")),
        replace(SPEC, start_from=None, demonstrations=DemonstrationSettings("a.zip")),
    ],
)
async def test_reading_a_file_ends_with_the_call(
    spec: TrainingRunSpec, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, ended = threading.Event(), threading.Event()

    def endless(*_: Any, check: Callable[[], None], **__: Any) -> Any:
        reads.set()
        try:
            while not ended.wait(0.01):
                check()
        finally:
            ended.set()

    monkeypatch.setattr(source_checks, "open_file", endless)
    call = asyncio.create_task(with_digests(spec, store, None))
    try:
        assert await asyncio.to_thread(reads.wait, 60)
        call.cancel()
        assert await asyncio.to_thread(ended.wait, 60)
    finally:
        ended.set()


def test_source_of_other_spaces_is_refused_where_both_are_known(store: RunStore, model: Published) -> None:
    run = store.run("first")
    world = FakeExternalEnvAdapter()
    spaces = {
        "observation_space": MessageToDict(world.observation_space),
        "action_space": MessageToDict(world.action_space),
    }
    newest = run.claim(None).publish_model(300, {"policy.onnx": b"newest"})
    run.claim(None).publish_weights(newest, {"weights.npz": b"3", LEARNER_FILE: json.dumps(spaces).encode()})
    start = StartFrom("first", "step:300")
    same = make_spec(box([1], -9, 9), discrete(2))
    assert starting_digest(store, start, same) == newest.digest, "bounds and names may differ"
    assert starting_digest(store, StartFrom("first", "step:200"), same) == model.digest, "its spaces are not recorded"
    text = refused(starting_digest, store, start, make_spec(box([2]), discrete(2)))
    assert text.startswith(
        "start_from.run: the model models/300 of the run 'first' does not fit: its observations are "
    )
    assert "and this run's are" in text
    assert "its actions are" in refused(starting_digest, store, start, make_spec(box([1]), discrete(3)))
