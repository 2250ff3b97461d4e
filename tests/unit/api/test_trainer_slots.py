import asyncio

import pytest
from aisandbox_api.local.trainer_slots import TrainerSlots


async def is_done(task: "asyncio.Task[None]") -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_trainer_slots_are_assigned_in_order_and_not_in_excess() -> None:
    slots = TrainerSlots(1)
    await slots.acquire("b")
    tasks = {order: asyncio.create_task(slots.acquire(order)) for order in ("d", "a", "c")}
    assert [await is_done(task) for task in tasks.values()] == [False] * 3
    for order in ("a", "c", "d"):
        slots.release()
        assert await is_done(tasks[order])
        assert sum([await is_done(task) for task in tasks.values()]) == ("a", "c", "d").index(order) + 1


async def test_trainer_slot_assigned_to_a_cancelled_task_goes_to_the_next() -> None:
    slots = TrainerSlots(1)
    await slots.acquire("a")
    leaving, staying = asyncio.create_task(slots.acquire("b")), asyncio.create_task(slots.acquire("c"))
    assert not await is_done(leaving)
    slots.release()  # assigned to b, which is cancelled before it runs again
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await is_done(staying)


async def test_trainer_slot_is_not_assigned_to_a_task_cancelled_in_the_queue() -> None:
    slots = TrainerSlots(1)
    await slots.acquire("a")
    leaving = asyncio.create_task(slots.acquire("b"))
    assert not await is_done(leaving)
    leaving.cancel()
    slots.release()
    await asyncio.wait_for(slots.acquire("c"), 1)


async def test_trainer_slot_goes_to_the_owner_who_has_the_fewest() -> None:
    slots = TrainerSlots(2)
    await slots.acquire("1", "alice")
    await slots.acquire("2", "alice")
    waiting = {
        order: asyncio.create_task(slots.acquire(order, owner))
        for order, owner in (("3", "alice"), ("4", "alice"), ("5", "bob"), ("6", "bob"))
    }
    assert [await is_done(task) for task in waiting.values()] == [False] * 4
    for order, owner in (("5", "alice"), ("3", "alice"), ("4", "alice"), ("6", "bob")):
        slots.release(owner)
        assert await is_done(waiting[order]), order
