import asyncio
from random import Random

import pytest
from aisandbox_operator.work_queue import LONGEST_BACKOFF_SECONDS, WorkQueue


@pytest.fixture
def queue() -> WorkQueue:
    return WorkQueue(Random(1))


async def test_key_that_is_added_often_is_queued_once(queue: WorkQueue) -> None:
    for _ in range(5):
        queue.add("a")
    queue.add("b")
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_key_named_while_in_work_comes_back_when_that_is_done(queue: WorkQueue) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0, "two workers would have it"
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_getter_waits_for_a_key(queue: WorkQueue) -> None:
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await asyncio.wait_for(waiting, 1) == "a"


async def test_delay_brings_the_key_back_and_a_later_one_replaces_it(queue: WorkQueue) -> None:
    queue.add_after("a", 3600)
    assert queue.has_timer("a")
    queue.add_after("a", 0.01)
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    assert not queue.has_timer("a")
    queue.add_after("a", 3600)
    queue.add_after("a", None)
    assert not queue.has_timer("a")
    queue.add_after("b", 0)
    assert await queue.get() == "b"


async def test_backoff_grows_to_a_bound_and_ends_with_success(queue: WorkQueue) -> None:
    delays = [queue.failed("a") for _ in range(20)]
    assert 0.05 <= delays[0] <= 0.1
    assert delays[5] > delays[0]
    assert max(delays) <= LONGEST_BACKOFF_SECONDS
    assert delays[-1] >= LONGEST_BACKOFF_SECONDS / 2
    queue.succeeded("a")
    assert queue.failed("a") <= 0.1


async def test_backoff_of_one_key_is_not_anothers(queue: WorkQueue) -> None:
    for _ in range(10):
        queue.failed("a")
    assert queue.failed("b") <= 0.1


async def test_pause_that_the_api_server_asks_for_is_bounded(queue: WorkQueue) -> None:
    assert queue.failed("a", 5.0) == 5.0
    assert queue.failed("a", 10**6) == 2 * LONGEST_BACKOFF_SECONDS


async def test_depth_is_observed() -> None:
    depths: list[int] = []
    queue = WorkQueue(Random(1), depths.append)
    queue.add("a")
    queue.add("b")
    await queue.get()
    assert depths == [1, 2, 1]
