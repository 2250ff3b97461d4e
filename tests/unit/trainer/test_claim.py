"""The files of an earlier run of the same name: set aside, but not before a restored run can have its status."""

from __future__ import annotations

from pathlib import Path

import pytest
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import RunFolder, RunStore
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.run.claim import claim
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop

OLD, NEW = "11111111-aaaa", "22222222-bbbb"
LONG = Settings(earlier_run_patience=600.0)


class ScriptedStop(Stop):
    """Something happens in the first pause."""

    def __init__(self, happens: str = "nothing", uid_file: Path | None = None) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._happens, self._uid_file = happens, uid_file

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self._happens == "a stop":
            self.request()
            self.check()
        if self._happens == "the files become its own":
            assert self._uid_file is not None
            self._uid_file.write_text(NEW)
        if self._happens == "nothing":
            super().sleep(seconds)


def start_of(folder: Path, uid: str) -> TrainerStart:
    return TrainerStart("walker", None, TrainingRunSpec(Algorithm.PPO, 100), folder, folder, run_uid=uid)


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    run = RunStore(tmp_path).run("walker")
    writer = run.claim(None, OLD)
    writer.point("final", writer.publish_model(100, {"policy.onnx": b"old"}))
    return run


def test_trainer_that_is_stopped_while_it_waits_leaves_the_files_where_they_are(
    finished: RunFolder, tmp_path: Path
) -> None:
    stop = ScriptedStop("a stop")
    with pytest.raises(StopRequested):
        claim(start_of(tmp_path, NEW), stop, LONG)
    assert len(stop.pauses) == 1
    assert finished.uid() == OLD
    assert finished.model("final").timesteps == 100


def test_files_are_set_aside_when_the_time_has_passed(finished: RunFolder, tmp_path: Path) -> None:
    stop = ScriptedStop()
    writer = claim(start_of(tmp_path, NEW), stop, Settings(earlier_run_patience=0.01))
    assert stop.pauses
    assert (writer.attempt, finished.uid()) == (1, NEW)
    assert finished.models() == []
    assert RunFolder.uid(RunStore(tmp_path).run("walker")) == NEW


def test_wait_ends_when_the_files_become_the_runs_own(finished: RunFolder, tmp_path: Path) -> None:
    stop = ScriptedStop("the files become its own", finished.path / "uid")
    claim(start_of(tmp_path, NEW), stop, LONG)
    assert len(stop.pauses) == 1
    assert finished.model("final").timesteps == 100


@pytest.mark.parametrize("uid", [OLD, ""])
def test_run_with_the_uid_of_the_files_or_none_does_not_wait(finished: RunFolder, tmp_path: Path, uid: str) -> None:
    stop = ScriptedStop()
    claim(start_of(tmp_path, uid), stop, LONG)
    assert stop.pauses == []
    assert finished.model("final").timesteps == 100
