"""When reported progress is written to a run's status, and when not."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aisandbox_api.kubernetes.live_progress import LiveProgress
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.progress_writer import ProgressWriter
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_crds.trainingrun import TrainingRun
from prometheus_client import CollectorRegistry

REPORTED = Progress(timesteps=600, attempt=1, last_updated_time="2026-03-01T12:00:00.900000Z")


class Resources:
    """Takes every write."""

    def __init__(self) -> None:
        self.written: asyncio.Queue[str] = asyncio.Queue()

    async def write_progress(self, run: TrainingRun, status: TrainingRunStatus) -> TrainingRun:
        self.written.put_nowait(run.name)
        return replace(run, status=replace(run.status, progress=status.progress))


async def written_of(run: TrainingRun, **status: Any) -> str:
    """The first of two runs that is written: ``old``, whose status in the cluster is that, or ``new``."""
    resources, cache = Resources(), RunCache()
    old = replace(run, name="old", uid="old", resource_version="1", status=TrainingRunStatus(**status))
    for known in (old, replace(run, name="new", uid="new", resource_version="2", status=TrainingRunStatus())):
        cache.put(known)
    live = {uid: LiveProgress(uid, TrainingRunStatus(progress=REPORTED), None, True) for uid in ("old", "new")}
    writer = ProgressWriter(resources, cache, live.get, ClusterMetrics(CollectorRegistry()))  # type: ignore[arg-type]
    for name in ("old", "new"):
        writer.schedule(name, urgent=True)
    try:
        return await asyncio.wait_for(resources.written.get(), 10)
    finally:
        await writer.close()


async def test_urgent_reports_are_written_early_and_not_more_often(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_api.kubernetes.progress_writer.LOOK_SECONDS", 0.0)
    resources, cache, clock, times = Resources(), RunCache(), [0.0], []
    cache.put(replace(run, name="a", uid="a", resource_version="1"))
    live = LiveProgress("a", TrainingRunStatus(progress=REPORTED), None, True)
    metrics = ClusterMetrics(CollectorRegistry())
    writer = ProgressWriter(resources, cache, lambda _: live, metrics, lambda: clock[0])  # type: ignore[arg-type]
    for quarter in range(400):
        clock[0] = quarter / 4
        writer.schedule("a", urgent=True)
        for _ in range(20):
            await asyncio.sleep(0)
        times += [clock[0]] * resources.written.qsize()
        while not resources.written.empty():
            resources.written.get_nowait()
    await writer.close()
    assert times[:4] == [0, 1, 6, 11]
    assert len(times) == 21


async def test_report_does_not_overwrite_the_termination_message(run: TrainingRun) -> None:
    said = replace(REPORTED, timesteps=630, last_updated_time="2026-03-01T12:00:00.950000Z")
    assert await written_of(run, phase=Phase.SUSPENDED, progress=said) == "new"


async def test_report_is_not_written_over_one_of_another_replica(run: TrainingRun) -> None:
    later = replace(REPORTED, last_updated_time="2026-03-01T12:00:00.950000Z")
    assert await written_of(run, phase=Phase.RUNNING, progress=later) == "new"


async def test_report_of_a_newer_attempt_is_written(run: TrainingRun) -> None:
    before = replace(REPORTED, attempt=0, last_updated_time="2026-03-01T12:00:01Z")
    assert await written_of(run, phase=Phase.RUNNING, progress=before) == "old"
