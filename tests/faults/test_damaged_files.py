"""Published checkpoints, models and pointers are damaged; whoever reads them finds it, and uses what is whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import damage
import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_model_store import Damaged, ModelNotFound, RunFolder, RunStore
from fault_tally import Fault, Rows, Tally
from faulty_trainers import TinyRun, Trainers
from waiting import wait_until


def test_damage_is_found_and_what_is_whole_is_used(
    row: Rows, trainers: Trainers, undisturbed: dict[str, TinyRun], tmp_path: Path
) -> None:
    with row("files-damaged") as tally, _inference_server(tmp_path / "served") as act:

        def one_round(fault: Fault) -> None:
            run = undisturbed[fault.random.choice(list(undisturbed))]
            place = tmp_path / str(fault.number)
            if fault.number % 20 == 19:
                _serve(fault, run, tmp_path / "served", act)
            elif fault.number % 20 == 18:
                _resume(fault, trainers, run, place)
            else:
                (_checkpoint, _model, _checkpoint, _pointer)[fault.number % 4](fault, _copy(run, place), tally)
            shutil.rmtree(place, ignore_errors=True)

        tally.run(one_round, workers=2)
        tally.note(
            "Of 20 damaged, one is met by a trainer that resumes, one by an inference-server that serves the model "
            "before it, and the others by the functions with which these two read."
        )


def _copy(run: TinyRun, place: Path) -> RunFolder:
    shutil.copytree(run.root, place, symlinks=True)
    return RunStore(place).run("run")


def _damage(fault: Fault, newest: Path, before: Path) -> str:
    """Damages a published folder; the kind."""
    kinds = {**damage.ALONE, "swapped inside": damage.swap_inside, "swapped": damage.swap_with(before)}
    kind = fault.random.choice(list(kinds))
    case = kinds[kind](newest, fault.random)
    fault.injected(kind, f"{newest.parent.name}/{newest.name}: {case}")
    return case


def _checkpoint(fault: Fault, run: RunFolder, tally: Tally) -> None:
    """The newest checkpoint, or the two newest: the next intact one is used, and the reason is reported."""
    whole = [published.timesteps for published in run.checkpoints()]
    assert (newest := run.newest_checkpoint()) is not None
    assert newest.timesteps == whole[0]
    tally.accepted()
    paths = [published.path for published in run.checkpoints()]
    case = _damage(fault, paths[0], paths[1])
    damaged = 2 if ("swapped" in case and " and " not in case) or "folders" in case else 1
    told: list[str] = []
    found = run.newest_checkpoint(lambda name, reason: told.append(f"{name}: {reason}"))
    assert found is not None
    assert found.timesteps == whole[damaged], f"{found.relative} was taken for whole; told: {told}"
    assert len(told) == damaged
    aside = [path for path in run.checkpoints_path.iterdir() if path.name.startswith("damaged-")]
    assert len(aside) == damaged
    assert all((path / "reason.txt").read_text().strip() for path in aside)


def _model(fault: Fault, run: RunFolder, tally: Tally) -> None:
    """A model: it is refused by every name, and the others are not."""
    models = run.models()
    whole = {published.timesteps: dict(run.read_model(published).files) for published in models}
    tally.accepted(len(models))
    latest = run.model("latest")
    case = _damage(fault, latest.path, models[1].path)
    assert latest.path == models[0].path
    for selector in ("latest", "final", latest.digest, f"step:{latest.timesteps}"):
        assert not _loads(run, selector), f"{selector} was taken for whole"
    if "swapped" not in case:
        for other in models[1:]:
            assert dict(run.load_model(f"step:{other.timesteps}").files) == whole[other.timesteps]
            tally.accepted()


def _pointer(fault: Fault, run: RunFolder, tally: Tally) -> None:
    """A pointer: what it says no more is found out, be it by the pointer or by the model that it names."""
    path = run.models_path / fault.random.choice(["latest", "best", "final"])
    before = run.pointer(path.name)
    run.load_model(path.name)
    tally.accepted()
    alone = run.models_path / "alone"
    alone.mkdir()
    path.rename(alone / path.name)
    kinds: dict[str, Callable[[Path, random.Random], str]] = {
        kind: done for kind, done in damage.ALONE.items() if kind != "missing"
    }
    kind = fault.random.choice([*kinds, "swapped"])
    if kind == "swapped":
        others = [name for name in ("latest", "best", "final") if name != path.name]
        others = [name for name in others if (run.models_path / name).read_bytes() != (alone / path.name).read_bytes()]
        other = fault.random.choice(others or ["none"])
        if other == "none":
            return
        case = f"swapped with {other}"
        shutil.copy(run.models_path / other, alone / path.name)
    else:
        case = kinds[kind](alone, fault.random)
    (alone / path.name).rename(path)
    alone.rmdir()
    fault.injected(f"pointer {kind}", f"pointer {case}: {path.read_bytes()!r}")
    assert not _loads(run, path.name), f"taken for whole: {before}"


def _loads(run: RunFolder, selector: str) -> bool:
    try:
        run.load_model(selector)
    except (Damaged, ModelNotFound):
        return False
    return True


def _resume(fault: Fault, trainers: Trainers, run: TinyRun, place: Path) -> None:
    """A trainer meets damaged checkpoints: it continues from the one before them, and ends with the same model."""
    again = TinyRun(trainers, place, run.kind)
    shutil.copytree(run.root / "runs", again.root / "runs")
    (again.run.models_path / "final").unlink()  # it was ended by something else before it was done
    checkpoints = again.run.checkpoints()
    _damage(fault, checkpoints[0].path, checkpoints[1].path)
    saved = again.whole_checkpoint()
    fault.recovered(again.finish())
    resumed = again.message().resumed_from
    assert (resumed.timesteps if resumed else 0) == saved < checkpoints[0].timesteps
    assert again.final() == run.final(), "another final model than without the fault"


Act = Callable[[str], str]
"""The digest of the model that answers for a run."""


@contextmanager
def _inference_server(models_dir: Path) -> Iterator[Act]:
    models_dir.mkdir()
    environ = {**os.environ, "MODELS_DIR": str(models_dir), "GRPC_PORT": "0"}
    log = (models_dir.parent / "inference.log").open("w+")
    process = subprocess.Popen([sys.executable, "-m", "aisandbox_inference"], env=environ, stderr=log, stdout=log)
    try:
        address = wait_until(lambda: _address(Path(log.name)))
        with grpc.insecure_channel(address) as channel:
            stub: Any = PolicyTrainerServiceStub(channel)

            def act(run_id: str) -> str:
                request = pb.ActRequest(run_id=run_id, observation=[0.0] * 4, episode_start=True)
                return str(stub.Act(request, timeout=30, wait_for_ready=True).model)

            yield act
    finally:
        process.kill()
        process.wait()
        log.close()


def _address(log: Path) -> str:
    for line in log.read_text().splitlines():
        if line.startswith("{") and (address := json.loads(line).get("address")):
            return str(address)
    return ""


def _serve(fault: Fault, run: TinyRun, models_dir: Path, act: Act) -> None:
    """A server meets a damaged newer model: the one before it answers on, and the newer one once it is whole."""
    name = f"run-{fault.number}"
    served = models_dir / "runs" / name
    shutil.copytree(run.run.path, served)
    folder = RunStore(models_dir).run(name)
    models = folder.models()
    newer, writer = folder.model("latest"), folder.claim(None)
    whole = models_dir.parent / f"whole-{fault.number}"
    shutil.copytree(newer.path, whole)
    writer.point("latest", models[1])
    assert act(name) == models[1].digest
    kind = fault.random.choice(list(damage.ALONE))
    fault.injected(kind, f"served {name}: {damage.ALONE[kind](newer.path, fault.random)}")
    writer.point("latest", newer)
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        assert act(name) == models[1].digest, "the damaged model answers"
        time.sleep(0.05)
    shutil.rmtree(newer.path)
    whole.rename(newer.path)
    began = time.monotonic()
    wait_until(lambda: act(name) == newer.digest, seconds=30, every=0.05)
    fault.recovered(time.monotonic() - began)
    shutil.rmtree(served)
