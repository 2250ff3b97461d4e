"""The supervision of runs under requests in any order, with trainers in memory."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aisandbox_api import Settings
from aisandbox_api.errors import ApiError, LimitReached, RunDone, ServiceStopping, StartupError
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.installation_secret import SECRET_NAME
from aisandbox_api.local.records import RecordStore
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_crds.status import Phase, TrainingRunStatus
from aisandbox_crds.trainer_exit import ExitCode
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_model_store import RunStore

SLOTS = 2
RUNS = 5


class MemoryTrainer:
    def __init__(self, launcher: "MemoryLauncher", start: TrainerStart) -> None:
        self.pid = 0
        self.start = start
        self.launcher = launcher
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.exit)

    def end(self, code: int) -> None:
        if not self.exit.done():
            self.launcher.at_work.remove(self)
            self.exit.set_result(code)

    def terminate(self) -> None:
        asyncio.get_running_loop().call_later(self.launcher.random.random() / 200, self.end, ExitCode.CANCELLED)

    def kill(self) -> None:
        self.end(137)


class MemoryLauncher:
    """Checks the promises of a supervisor at every launch."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.at_work: list[MemoryTrainer] = []
        self.attempts: dict[str, int] = {}

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def ready(self) -> None:
        await asyncio.sleep(self.random.random() / 500)

    async def launch(self, start: TrainerStart, log_path: Path) -> MemoryTrainer:
        await asyncio.sleep(self.random.random() / 500)
        assert start.run_id not in {trainer.start.run_id for trainer in self.at_work}, "two trainers of one run"
        assert start.attempt is not None
        assert start.attempt > self.attempts.get(start.run_id, 0), "an attempt's number was given twice"
        self.attempts[start.run_id] = start.attempt
        self.at_work.append(trainer := MemoryTrainer(self, start))
        assert len(self.at_work) <= SLOTS, "more trainers than slots"
        return trainer


@pytest.mark.parametrize("seed", range(5))
async def test_requests_in_any_order_keep_the_contract(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.local.status_updates.FIRST_BACKOFF_SECONDS", 0.001)
    random = Random(seed)
    launcher = MemoryLauncher(random)
    backend = LocalBackend(Settings(models_dir=tmp_path, max_concurrent_runs=SLOTS), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    spec = TrainingRunSpec(Algorithm.PPO, 1000, seed=1, backoff_limit=1000)
    names = [f"run-{number}" for number in range(RUNS)]
    for name in names:
        await backend.create(TrainingRun(name, spec))

    for _ in range(150):
        name = random.choice(names)
        request = random.choice([backend.suspend, backend.resume, backend.resume, None, None])
        if request is not None:
            await request(name)
        elif launcher.at_work:
            random.choice(launcher.at_work).end(random.choice([1, 137, ExitCode.RETRYABLE, ExitCode.CANCELLED]))
        await asyncio.sleep(random.random() / 200)

    for name in names:
        await backend.resume(name)
    for name in names[1:]:
        assert (await backend.cancel(name)).spec.cancel
    async with asyncio.timeout(60):
        for name in names[1:]:
            assert [run async for run in backend.watch(name)][-1].status.phase is Phase.CANCELLED
        while not [trainer for trainer in launcher.at_work if trainer.start.run_id == names[0]]:  # noqa: ASYNC110 - a state of the backend
            await asyncio.sleep(0.01)
        launcher.at_work[0].end(ExitCode.DONE)
        assert [run async for run in backend.watch(names[0])][-1].status.phase is Phase.SUCCEEDED
    assert launcher.at_work == []
    await backend.close()
    recorded = {run.name: run.status.phase for run in RecordStore(RunStore(tmp_path)).load()}
    assert recorded == {name: Phase.SUCCEEDED if name == names[0] else Phase.CANCELLED for name in names}


async def test_runs_get_slots_in_the_order_of_their_creation(tmp_path: Path) -> None:
    launcher = MemoryLauncher(Random(1))
    backend = LocalBackend(Settings(models_dir=tmp_path, max_concurrent_runs=1), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    spec = TrainingRunSpec(Algorithm.PPO, 1000, seed=1)
    for name in ("c", "a", "b"):
        await backend.create(TrainingRun(name, spec))
    async with asyncio.timeout(60):
        for name in ("c", "a", "b"):
            while not launcher.at_work:  # noqa: ASYNC110 - a state of the backend
                await asyncio.sleep(0.01)
            assert launcher.at_work[0].start.run_id == name
            launcher.at_work[0].end(ExitCode.DONE)
    await backend.close()


async def test_runs_that_are_suspended_after_their_start_are_limited(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, max_concurrent_runs=1, max_pending_runs=10, max_suspended_runs=2)
    backend = LocalBackend(settings, MemoryLauncher(Random(1)))
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    spec = TrainingRunSpec(Algorithm.PPO, 1000, seed=1)
    for name in ("a", "b"):
        await backend.create(TrainingRun(name, spec))
        await backend.suspend(name)
    with pytest.raises(LimitReached, match="MAX_SUSPENDED_RUNS"):
        await backend.create(TrainingRun("c", spec))
    await backend.cancel("a")
    await backend.create(TrainingRun("c", spec))
    await backend.close()


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.STARTING, Phase.RUNNING, Phase.SUSPENDED, Phase.SUCCEEDED])
async def test_recorded_run_continues_by_its_phase(tmp_path: Path, phase: Phase, run: TrainingRun) -> None:
    """With one slot, which is the older run's if that needs it, else the other one's."""
    spec = replace(run.spec, suspend=phase is Phase.SUSPENDED)
    status = replace(run.status, phase=phase, attempt=3)
    recorded = replace(run, spec=spec, status=status, creation_time="2025-01-01T00:00:00.000000Z")
    other = TrainingRun("other", run.spec, creation_time="2025-01-01T00:00:01.000000Z")
    for each in (recorded, other):
        RecordStore(RunStore(tmp_path)).write(each)
    launcher = MemoryLauncher(Random(1))
    backend = LocalBackend(Settings(models_dir=tmp_path, max_concurrent_runs=1), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    async with asyncio.timeout(60):
        while not launcher.at_work:  # noqa: ASYNC110 - a state of the backend
            await asyncio.sleep(0.01)
    start = launcher.at_work[0].start
    if phase in (Phase.SUSPENDED, Phase.SUCCEEDED):
        assert (await backend.get(run.name)).status.phase is phase
        assert (start.run_id, start.attempt) == ("other", 1)
    else:
        assert (start.run_id, start.attempt) == (run.name, 4)
    if phase is Phase.SUCCEEDED:
        with pytest.raises(RunDone):
            await backend.cancel(run.name)
    await backend.close()


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUSPENDED])
async def test_record_that_is_up_to_date_is_not_written_again(
    tmp_path: Path, phase: Phase, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(run.spec, suspend=phase is Phase.SUSPENDED)
    RecordStore(RunStore(tmp_path)).write(replace(run, spec=spec, status=replace(run.status, phase=phase)))
    written: list[Phase] = []
    write = RecordStore.write

    def noted(store: RecordStore, run: TrainingRun) -> None:
        written.append(run.status.phase)
        write(store, run)

    monkeypatch.setattr(RecordStore, "write", noted)
    backend = LocalBackend(Settings(models_dir=tmp_path), MemoryLauncher(Random(1)))
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    await backend.close()  # saves what is not
    assert written == []
    if phase is Phase.SUSPENDED:
        backend = LocalBackend(Settings(models_dir=tmp_path), MemoryLauncher(Random(1)))
        await backend.open()
        await backend.start("127.0.0.1:1", None)
        await backend.cancel(run.name)
        await backend.close()
        assert written == [Phase.CANCELLED]


async def test_trainer_that_ended_while_the_service_was_down_is_known_by_its_termination_message(
    tmp_path: Path, run: TrainingRun
) -> None:
    recorded = replace(run, status=replace(run.status, phase=Phase.RUNNING, attempt=1))
    RecordStore(RunStore(tmp_path)).write(recorded)
    logs = tmp_path / "runs" / run.name / "logs"
    logs.mkdir()
    (logs / "termination-message-1.json").write_text('{"attempt": 1, "exitCode": 0, "timesteps": 1000}')
    launcher = MemoryLauncher(Random(1))
    backend = LocalBackend(Settings(models_dir=tmp_path), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    taken_up = await backend.get(run.name)
    assert (taken_up.status.phase, taken_up.status.progress.timesteps) == (Phase.SUCCEEDED, 1000)
    assert launcher.attempts == {}
    await backend.close()
    assert [run.status.phase for run in RecordStore(RunStore(tmp_path)).load()] == [Phase.SUCCEEDED]


async def test_create_after_the_end_is_refused(tmp_path: Path, run: TrainingRun) -> None:
    backend = LocalBackend(Settings(models_dir=tmp_path), MemoryLauncher(Random(1)))
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    await backend.close()
    with pytest.raises(ApiError, match="stopping"):
        await backend.create(run)


async def test_create_while_the_service_closes_is_refused_and_leaves_no_record(
    tmp_path: Path, run: TrainingRun
) -> None:
    launcher = MemoryLauncher(Random(1))
    backend = LocalBackend(Settings(models_dir=tmp_path), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    await backend.create(run)
    async with asyncio.timeout(60):
        while not launcher.at_work:  # noqa: ASYNC110 - a state of the backend
            await asyncio.sleep(0.01)
    let_go = asyncio.Event()

    async def wait_for_it() -> None:
        await let_go.wait()

    launcher.close = wait_for_it  # type: ignore[method-assign]
    closing = asyncio.create_task(backend.close())
    async with asyncio.timeout(60):
        while launcher.at_work:  # noqa: ASYNC110 - a state of the backend
            await asyncio.sleep(0.01)
    with pytest.raises(ServiceStopping):
        await backend.create(replace(run, name="late"))
    let_go.set()
    await closing
    assert [recorded.name for recorded in RecordStore(RunStore(tmp_path)).load()] == [run.name]


async def test_run_that_is_being_accepted_when_the_service_closes_is_closed_too(
    tmp_path: Path, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    write = RecordStore.write

    def slow(store: RecordStore, run: TrainingRun) -> None:
        writing.set()
        assert go_on.wait(20)
        write(store, run)

    monkeypatch.setattr(RecordStore, "write", slow)
    launcher = MemoryLauncher(Random(1))
    backend = LocalBackend(Settings(models_dir=tmp_path), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    creating = asyncio.create_task(backend.create(run))
    assert await asyncio.to_thread(writing.wait, 20)
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)  # it has begun
    go_on.set()
    async with asyncio.timeout(60):
        await asyncio.gather(creating, closing)
        tasks = {task.get_name() for task in asyncio.all_tasks()}
    assert f"live-{run.name}" not in tasks
    assert launcher.at_work == []


async def _keys(folder: Path, *runs: TrainingRun) -> dict[str, tuple[str | None, bool]]:
    """The keys that a service on the folder gives the trainers of its runs, and whether unsigned ones are read."""
    launcher = MemoryLauncher(Random(1))
    backend = LocalBackend(Settings(models_dir=folder, max_concurrent_runs=SLOTS), launcher)
    await backend.open()
    await backend.start("127.0.0.1:1", None)
    for run in runs:
        await backend.create(run)
    async with asyncio.timeout(60):
        while len(launcher.at_work) < SLOTS:  # noqa: ASYNC110 - a state of the backend
            await asyncio.sleep(0.01)
    starts = [trainer.start for trainer in launcher.at_work]
    await backend.close()
    return {start.run_id: (start.checkpoint_key, start.accept_unsigned_checkpoints) for start in starts}


async def test_runs_have_keys_of_their_own_that_outlive_the_service(tmp_path: Path) -> None:
    spec = TrainingRunSpec(Algorithm.PPO, 1000, seed=1)
    first = await _keys(tmp_path, TrainingRun("one", spec), TrainingRun("other", spec))
    assert await _keys(tmp_path) == first
    assert len({key for key, _ in first.values()}) == 2
    assert {unsigned for _, unsigned in first.values()} == {False}
    secret = tmp_path / "runs" / SECRET_NAME
    assert secret.stat().st_mode & 0o077 == 0
    secret.write_text("{")
    with pytest.raises(StartupError, match=SECRET_NAME):
        await LocalBackend(Settings(models_dir=tmp_path), MemoryLauncher(Random(1))).open()


async def test_attempt_without_a_key_has_the_run_read_unsigned_checkpoints(tmp_path: Path) -> None:
    spec = TrainingRunSpec(Algorithm.PPO, 1000, seed=1)
    run = TrainingRun("of-before", spec, TrainingRunStatus(attempt=1), creation_time="2120-01-01T00:00:00Z")
    records = RecordStore(RunStore(tmp_path))
    records.write(run)  # a version without keys, also one that was gone back to after the secret was made
    for _ in range(2):
        keys = await _keys(tmp_path, TrainingRun("new", spec))
        assert {name: unsigned for name, (_, unsigned) in keys.items()} == {"of-before": True, "new": False}

    (new,) = (each for each in records.load() if each.name == "new")
    records.write(replace(new, status=replace(new.status, attempt=new.status.attempt + 1)))  # that version again
    assert {unsigned for _, unsigned in (await _keys(tmp_path)).values()} == {True}
