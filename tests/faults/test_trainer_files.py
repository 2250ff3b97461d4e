"""Trainers that are killed, meet a full or broken disk, or another trainer of their run, at every change of a file."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fault_tally import Fault, Rows
from faulty_disk import Operation
from faulty_trainer import CLAIMED
from faulty_trainers import INTERVAL, KINDS, TinyRun, Trainer, Trainers
from waiting import wait_until

Point = tuple[int, str]
"""The number of an operation, and when: before, torn, after."""


def points(run: TinyRun) -> list[Point]:
    """Every place where a fault can be."""
    changes = [operation for operation in run.operations(1) if operation.kind != CLAIMED]
    return [
        (change.number, when)
        for change in changes
        for when in ("before", "after", *(("torn",) if change.size > 1 else ()))
    ]


def test_every_byte_of_the_files_goes_through_the_counted_writes(undisturbed: dict[str, TinyRun]) -> None:
    """Else there would be writes around which nothing is tried."""
    for run in undisturbed.values():
        written: Counter[Path] = Counter()
        for operation in run.operations(1):
            if operation.kind == "write":
                written[Path(operation.path).parent] += operation.size
            elif operation.kind == "rename":
                written[Path(operation.to)] = written.pop(Path(operation.path), 0)
        for published in run.run.checkpoints():
            assert written[published.path] >= published.manifest.size


def test_killed_trainer_is_followed_by_one_that_continues(
    row: Rows, trainers: Trainers, undisturbed: dict[str, TinyRun], tmp_path: Path
) -> None:
    with row("trainer-killed") as tally:
        every = points(undisturbed["PPO"])
        tally.random_of("order").shuffle(every)
        others = [kind for kind in KINDS if kind != "PPO"]

        def one_round(fault: Fault) -> None:
            kind = "PPO"
            if fault.number % 4 == 3:
                kind = others[fault.number // 4 % len(others)]
                point = None if fault.number % 8 == 3 else fault.random.choice(points(undisturbed[kind]))
            else:
                point = every[(fault.number - fault.number // 4) % len(every)]
            run = TinyRun(trainers, tmp_path / str(fault.number), kind)
            _kill(fault, run, point)
            if fault.random.random() < 0.2:
                _kill(fault, run, (fault.random.randrange(40), fault.random.choice(["before", "after", "torn"])))
            _check_continuation(fault, run, undisturbed[kind])

        tally.run(one_round, workers=2)
        tally.note(f"The {len(every)} places around the operations of a PPO run are taken in a random order.")


def _kill(fault: Fault, run: TinyRun, point: Point | None) -> None:
    """Starts an attempt and kills it there, or at any time; one that ends before is not counted."""
    saved, before = run.whole_checkpoint(), run.steps
    if point is None:
        trainer = run.start()
        wait_until(lambda: run.steps > before or trainer.changed.is_set(), every=0.005)
        seconds = fault.wait(0, 0.6)
        trainer.signal(signal.SIGKILL)
        where = f"{seconds:.3f} s after the first step"
    else:
        trainer = run.start(at=point[0], when=point[1])
        where = f"{point[1]} operation {point[0]}"
    if trainer.wait() != 128 + signal.SIGKILL:
        assert trainer.code == 0, run.tail()
        return
    fault.injected("at any time" if point is None else point[1], f"{run.kind}, {where}")
    lost = saved + run.steps - before - run.whole_checkpoint()
    assert lost <= INTERVAL, f"{lost} steps lost"


def _check_continuation(fault: Fault, run: TinyRun, undisturbed: TinyRun) -> None:
    saved = run.whole_checkpoint()
    fault.recovered(run.finish())
    resumed = run.message().resumed_from
    assert (resumed.timesteps if resumed else 0) == saved, "not from the newest whole checkpoint"
    run.check_end(undisturbed)


@contextmanager
def small_disk(place: Path, megabytes: float) -> Iterator[Path]:
    """A file system of its own, if this user may mount one."""
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 2**20)}", "tmpfs", place],
        check=True,
        capture_output=True,
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def may_mount(folder: Path) -> bool:
    try:
        with small_disk(folder / "probe", 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def test_full_or_broken_disk_costs_a_checkpoint_and_not_the_run(
    row: Rows, trainers: Trainers, undisturbed: dict[str, TinyRun], tmp_path: Path
) -> None:
    with row("disk-trouble") as tally:
        mounts = may_mount(tmp_path)
        if not mounts:
            tally.nearest("no file system could be mounted here, so a full disk is only an answer to the calls")

        def one_round(fault: Fault) -> None:
            kind = fault.random.choice(list(KINDS))
            folder = tmp_path / str(fault.number)
            if mounts and fault.number % 6 == 5:
                folder.mkdir()
                with small_disk(folder / "disk", 4) as disk:
                    run = TinyRun(trainers, folder, kind, root=disk, settings={"DISK_PATIENCE_SECONDS": "0.3"})
                    _fill(fault, run, disk)
                    run.check_end(undisturbed[kind])
            else:
                patience = fault.random.choice(["0.3", "60"])
                run = TinyRun(trainers, folder, kind, settings={"DISK_PATIENCE_SECONDS": patience})
                _fail(fault, run, points(undisturbed[kind]))
                run.check_end(undisturbed[kind])

        tally.run(one_round, workers=2)
        tally.note("Removing what is half written is refused by a broken disk too, never by a full one.")


def _fail(fault: Fault, run: TinyRun, every: list[Point]) -> None:
    """Operations fail from one on: one of them, a few, or all until there is space again."""
    error = ("ENOSPC", "EIO")[fault.number % 2]
    number, when = fault.random.choice([point for point in every if point[1] != "after"])
    times = fault.random.choice([1, 3, 10**9])
    space = run.folder / "space"
    trainer = run.start(at=number, action=error, when=when, times=times, until=str(space))
    failed = _wait_for_failure(run, trainer, error)
    fault.injected(error, f"{run.kind}, {when} operation {number} ({failed.kind}), {times} times")
    if times > 3:
        fault.wait(0, 1)
        space.touch()
        began = time.monotonic()
    code = trainer.wait()
    _check_published(run)
    if code != 0:
        assert code == 75, f"exit code {code}\n{run.tail()}"
        _check_reason(run, error)
        space.touch()
        fault.recovered(run.finish())
    elif times > 3:
        fault.recovered(time.monotonic() - began)


def _wait_for_failure(run: TinyRun, trainer: Trainer, error: str) -> Operation:
    def failed() -> Operation | None:
        return next((operation for operation in run.operations() if operation.error == error), None)

    wait_until(lambda: failed() or trainer.changed.is_set(), every=0.01)
    found = failed()
    assert found is not None, f"nothing failed; exit code {trainer.code}\n{run.tail()}"
    return found


def _check_published(run: TinyRun) -> None:
    """What was published is whole, and the newest of it was not lost."""
    checkpoints = [
        int(Path(operation.to).name.partition(".")[0])
        for operation in run.operations()
        if operation.kind == "rename" and not operation.error and Path(operation.to).parent.name == "checkpoints"
        and not Path(operation.to).name.startswith(".")
    ]  # fmt: skip
    assert run.whole_checkpoint() >= max(checkpoints, default=0)
    for published in run.run.models():
        run.run.read_model(published)


def _check_reason(run: TinyRun, error: str) -> None:
    failure = run.message().failure
    assert failure is not None, run.tail()
    if error == "ENOSPC":
        assert failure.reason == "DiskFull", failure
        assert "no space left" in failure.message.lower(), failure
    else:
        assert "Input/output error" in failure.message, failure


def _fill(fault: Fault, run: TinyRun, disk: Path) -> None:
    """Another program fills the disk at some time, and later frees space."""
    trainer = run.start()
    fault.wait(0, 0.8)
    until = time.monotonic() + fault.random.uniform(0.1, 2)
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        while time.monotonic() < until and not trainer.changed.is_set():
            try:
                ballast.write(bytes(4096))
            except OSError:  # full; what the trainer frees is taken too
                time.sleep(0.001)
    fault.injected("full file system", f"{run.kind}, {run.steps} steps done")
    (disk / "ballast").unlink()
    began = time.monotonic()
    code = trainer.wait()
    _check_published(run)
    if code == 0:
        fault.recovered(time.monotonic() - began)
        return
    assert code == 75, f"exit code {code}\n{run.tail()}"
    _check_reason(run, "ENOSPC")
    fault.recovered(run.finish())


def test_older_trainer_writes_nothing_after_the_newer_one_began(
    row: Rows, trainers: Trainers, undisturbed: dict[str, TinyRun], tmp_path: Path
) -> None:
    with row("two-trainers") as tally:
        removed: list[str] = []

        def one_round(fault: Fault) -> None:
            kind = fault.random.choice(list(KINDS))
            run = TinyRun(trainers, tmp_path / str(fault.number), kind)
            gone, last = _overlap(fault, run, fault.random.choice(points(undisturbed[kind])))
            removed.extend(gone)
            run.check_end(undisturbed[kind], last)

        tally.run(one_round, workers=2)
        if removed:
            tally.note(f"{len(removed)} times an older one still removed what was superseded already: {removed[0]}.")


def _overlap(fault: Fault, run: TinyRun, point: Point) -> tuple[list[str], int]:
    """Stops a trainer anywhere, starts another, lets the first continue at any time.

    The result is what the older one still removed, and which of the two was the newer one.
    """
    older = run.start(at=point[0], when=point[1], action="stop")
    wait_until(lambda: _state(older) in "TXZ", every=0.005)
    assert _state(older) == "T", f"not stopped at {point}\n{run.tail()}"
    newer = run.start()
    moment = fault.random.choice(
        ["as the other began", "when the other had claimed", "while the other ran", "after the other's end"]
    )
    fault.injected(f"went on {moment}", f"{run.kind}, stopped {point[1]} operation {point[0]}")
    if moment == "after the other's end":
        newer.wait()
    elif moment != "as the other began":
        wait_until(lambda: _claim(run, 2) or newer.changed.is_set(), every=0.002)
        fault.wait(0, 0.4 if moment == "while the other ran" else 0)
    older.signal(signal.SIGCONT)
    codes = {1: older.wait(), 2: newer.wait()}
    # One that was stopped before it had claimed claims later, and is the newer one then.
    claims = {number: _claim(run, number) for number in codes}
    last = max(codes, key=lambda number: claim.number if (claim := claims[number]) else 0)
    claim = claims[last]
    assert claim is not None
    assert codes[last] == 0, run.log(last).read_text()[-2500:]
    assert codes[3 - last] in (0, 75)
    if codes[3 - last] == 75:
        failure = run.message(3 - last).failure
        assert failure is not None
        assert failure.reason == "Fenced"
    return _check_fence(run, 3 - last, claim.ended), last


def _state(trainer: Trainer) -> str:
    try:
        return Path(f"/proc/{trainer.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _claim(run: TinyRun, attempt: int) -> Operation | None:
    return next((operation for operation in run.operations(attempt) if operation.kind == CLAIMED), None)


def _check_fence(run: TinyRun, attempt: int, since: int) -> list[str]:
    """Raises AssertionError if that attempt made anything visible after ``since``; what it removed."""
    removed = []
    for operation in run.operations(attempt):
        late = operation.began > since and not operation.error and operation.kind != CLAIMED
        temporary = "/.tmp-" in operation.path or "/.gone-" in operation.path
        if not late or (temporary and operation.kind != "rename"):
            continue
        if operation.kind == "rename":
            gone = Path(operation.to).name.startswith(".gone-")
            assert gone, f"the older trainer published {operation.to} after the newer one had begun"
            removed.append(str(Path(operation.path).relative_to(run.root)))
        else:
            assert operation.kind in ("fsync", "mkdir"), f"the older trainer did {operation}"
    return removed
