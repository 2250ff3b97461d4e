from collections.abc import Mapping
from random import Random
from typing import Any

import kopf
import pytest
from aisandbox_kubernetes import Configuration
from aisandbox_operator.watch_cache import WatchCache
from aisandbox_operator.watches import INACTIVITY_SECONDS, WATCH_SECONDS, Watches
from aisandbox_operator.work_queue import WorkQueue


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(Random(1))


@pytest.fixture
def relists() -> list[None]:
    return []


@pytest.fixture
def watches(queue: WorkQueue, relists: list[None]) -> Watches:
    return Watches(Configuration(), queue, WatchCache(), lambda: relists.append(None))


def run(status: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "walk", "uid": "u", "generation": 1, **metadata}, "status": status or {}}


async def shown(watches: Watches, kind: str | None, raw: dict[str, Any]) -> None:
    await watches._on_run(event={"type": kind, "object": raw})  # type: ignore[typeddict-item]


async def test_new_run_is_queued(watches: Watches, queue: WorkQueue) -> None:
    await shown(watches, "ADDED", run())
    assert await queue.get() == "walk"


async def test_deleted_run_is_queued_since_a_new_one_may_have_its_name(watches: Watches, queue: WorkQueue) -> None:
    await shown(watches, "ADDED", run(uid="new"))
    assert await queue.get() == "walk"
    queue.done("walk")
    queue.add_after("walk", 3600)
    await shown(watches, "DELETED", run(uid="old"))
    assert queue.has_timer("walk")
    assert await queue.get() == "walk"


async def test_list_requests_a_resync(watches: Watches, queue: WorkQueue, relists: list[None]) -> None:
    await shown(watches, None, run())
    await watches._on_job(event={"type": None, "object": run()})  # type: ignore[typeddict-item]
    assert len(queue) == 0
    assert len(relists) == 2


@pytest.mark.parametrize(
    ("after", "matters"),
    [
        (run({"progress": {"timesteps": 9, "attempt": 1}}, resourceVersion="2"), False),
        (run({"phase": "Running", "progress": {"attempt": 1}}), False),
        (run({"progress": {"attempt": 2}}), True),
        (run({"progress": {"attempt": 1}}, generation=2), True),
        (run({"progress": {"attempt": 1}}, deletionTimestamp="2026-03-01T12:00:00Z"), True),
        (run({"progress": {"attempt": 1}}, uid="another"), True),
    ],
)
async def test_report_of_progress_alone_is_not_queued(
    watches: Watches, queue: WorkQueue, after: dict[str, Any], matters: bool
) -> None:
    await shown(watches, None, run({"progress": {"attempt": 1}}))
    await shown(watches, "MODIFIED", after)
    assert len(queue) == matters


async def test_report_ends_a_stall(watches: Watches, queue: WorkQueue) -> None:
    stalled = [{"type": "ProgressStalled", "status": "True"}]
    await shown(watches, None, run({"conditions": stalled, "progress": {"lastUpdatedTime": "1"}}))
    await shown(watches, "MODIFIED", run({"conditions": stalled, "progress": {"lastUpdatedTime": "2"}}))
    assert len(queue) == 1


async def test_event_of_a_pod_or_job_queues_its_run(watches: Watches, queue: WorkQueue) -> None:
    raw = {"metadata": {"name": "walk-x", "uid": "p", "labels": {"aisandbox.dev/run": "walk"}}}
    await watches._on_pod(event={"type": "DELETED", "object": raw})  # type: ignore[typeddict-item]
    await watches._on_job(event={"type": "MODIFIED", "object": raw})  # type: ignore[typeddict-item]
    assert await queue.get() == "walk"
    assert len(queue) == 0


def test_kopf_writes_nothing_to_objects(watches: Watches) -> None:
    """Only handlers of changes, timers and daemons make kopf write finalizers and annotations; there are none."""
    resource = kopf.Resource("aisandbox.dev", "v1alpha1", "trainingruns", namespaced=True)
    registry = watches.registry
    assert registry._watching.has_handlers(resource)
    assert not registry._changing.has_handlers(resource)
    assert not registry._spawning.has_handlers(resource)
    assert not registry._indexing.has_handlers(resource)
    assert not watches.settings.posting.enabled


def test_kopf_retries_as_long_as_an_outage_lasts(watches: Watches) -> None:
    backoffs = watches.settings.networking.error_backoffs
    assert not isinstance(backoffs, int | float)
    delays = [delay for delay, _ in zip(backoffs, range(1000), strict=False)]
    assert len(delays) == 1000
    assert max(delays) <= 20


def test_watch_without_a_connection_is_restarted_within_a_minute() -> None:
    """An outage may leave a connection that only one side knows to be broken; 60 s after it all runs are reconciled."""
    assert isinstance(WATCH_SECONDS, int), "Kubernetes reads timeoutSeconds as a whole number"
    assert WATCH_SECONDS < INACTIVITY_SECONDS < 60
