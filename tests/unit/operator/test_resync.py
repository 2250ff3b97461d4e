import asyncio
from random import Random
from typing import Any, cast

import pytest
from aisandbox_kubernetes import Forbidden, Transient, Unavailable
from aisandbox_operator import resync as module
from aisandbox_operator.cluster import Cluster
from aisandbox_operator.metrics import Metrics
from aisandbox_operator.reconciler import Reconciler
from aisandbox_operator.resync import Resync
from aisandbox_operator.watch_cache import WatchCache
from aisandbox_operator.work_queue import WorkQueue
from aisandbox_operator.workers import Workers
from operator_objects import NOW, SETTINGS

SPEC = {"algorithm": "PPO", "totalTimesteps": 100}


def raw_run(name: str, phase: str = "", **spec: Any) -> dict[str, Any]:
    status = {"phase": phase, "completionTime": "2026-03-01T11:59:50Z"} if phase else {}
    return {
        "apiVersion": "aisandbox.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": {**SPEC, **spec},
        "status": status,
    }


def raw_job(name: str, end: str) -> dict[str, Any]:
    owner = {"kind": "TrainingRun", "uid": f"uid-{name}", "controller": True}
    metadata = {"name": name, "uid": f"job-{name}", "resourceVersion": "1", "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": {}, "status": {"conditions": [{"type": end, "status": "True"}]}}


class Lists:
    """What the API server lists; ``errors`` come first."""

    def __init__(self, *runs: dict[str, Any], jobs: tuple[dict[str, Any], ...] = ()) -> None:
        self.runs, self.jobs, self.errors, self.looks = list(runs), list(jobs), list[Exception](), 0

    async def all_runs(self) -> list[dict[str, Any]]:
        self.looks += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.runs

    async def all_jobs(self) -> list[dict[str, Any]]:
        return self.jobs

    async def all_pods(self) -> list[dict[str, Any]]:
        return []


def resync_of(lists: Lists, queue: WorkQueue, metrics: Metrics | None = None) -> Resync:
    return Resync(cast(Cluster, lists), SETTINGS, queue, WatchCache(), metrics or Metrics(), lambda: NOW, Random(1))


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(Random(1))


async def test_resync_queues_only_runs_whose_plan_is_not_empty(queue: WorkQueue) -> None:
    lists = Lists(raw_run("new"), raw_run("done", "Succeeded"), jobs=(raw_job("done", "Complete"),))
    await resync_of(lists, queue).once()
    assert await queue.get() == "new"
    assert len(queue) == 0


async def test_resync_delays_a_run_that_time_alone_will_change(queue: WorkQueue) -> None:
    lists = Lists(raw_run("done", "Succeeded", ttlSecondsAfterFinished=60), jobs=(raw_job("done", "Complete"),))
    await resync_of(lists, queue).once()
    assert len(queue) == 0
    assert queue.has_timer("done")


async def test_resync_counts_the_runs(queue: WorkQueue) -> None:
    metrics = Metrics()
    lists = Lists(raw_run("a"), raw_run("b", "Failed"), raw_run("c", "Failed"))
    resync = resync_of(lists, queue, metrics)
    await resync.once()
    lists.runs.pop()
    await resync.once()
    count = metrics.registry.get_sample_value
    assert count("aisandbox_operator_runs", {"phase": "Failed"}) == 1
    assert count("aisandbox_operator_runs", {"phase": "Pending"}) == 1
    assert (count("aisandbox_operator_resync_age_seconds") or 0) < 60


async def test_resync_repeats_after_a_failure_and_on_request(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(module, "BURST_SECONDS", 0.001)
    lists = Lists(raw_run("new"))
    lists.errors = [Unavailable("list", "500"), ValueError("odd")]
    resync = resync_of(lists, queue)
    task = asyncio.ensure_future(resync.run())
    assert await asyncio.wait_for(queue.get(), 5) == "new"
    assert lists.looks == 3
    queue.done("new")
    resync.request()
    assert await asyncio.wait_for(queue.get(), 5) == "new"
    assert lists.looks == 4
    task.cancel()


class Failing:
    """A reconciler that raises ``problems`` one by one, then succeeds."""

    def __init__(self, *problems: Exception) -> None:
        self.problems, self.well = list(problems), asyncio.Event()

    async def reconcile(self, name: str) -> float | None:
        if self.problems:
            raise self.problems.pop(0)
        self.well.set()
        return None


@pytest.mark.parametrize(
    "problem", [Unavailable("get", "500", retry_after=0.01), Transient("get", "-"), ValueError("a bug")]
)
async def test_workers_requeue_after_any_error(
    queue: WorkQueue, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aisandbox_operator.work_queue.FIRST_BACKOFF_SECONDS", 0.001)
    reconciler, metrics = Failing(problem), Metrics()
    workers = Workers(queue, cast(Reconciler, reconciler), metrics, 2)
    queue.add("a")
    task = asyncio.ensure_future(workers.run())
    await asyncio.wait_for(reconciler.well.wait(), 5)
    workers.stop()
    await asyncio.wait_for(task, 5)
    errors = metrics.registry.get_sample_value(
        "aisandbox_operator_reconcile_errors_total", {"error": type(problem).__name__}
    )
    assert errors == 1


async def test_workers_log_a_missing_permission_once(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    workers = Workers(queue, cast(Reconciler, Failing()), Metrics(), 1)
    monkeypatch.setattr("aisandbox_operator.workers.log.error", lambda event, **_: logged.append(event), raising=False)
    for _ in range(3):
        workers._retry("a", Forbidden("patch", "403"))
    assert logged == ["the API server refuses a call of the operator"]


async def test_workers_stop_when_each_has_finished_its_reconcile(queue: WorkQueue) -> None:
    workers = Workers(queue, cast(Reconciler, Failing()), Metrics(), 4)
    task = asyncio.ensure_future(workers.run())
    await asyncio.sleep(0)
    workers.stop()
    await asyncio.wait_for(task, 5)
