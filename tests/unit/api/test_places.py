import asyncio

import pytest
from aisandbox_api.local.places import Places


async def taken(task: "asyncio.Task[None]") -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_places_are_given_in_order_and_not_in_excess() -> None:
    places = Places(1)
    await places.take("b")
    tasks = {order: asyncio.create_task(places.take(order)) for order in ("d", "a", "c")}
    assert [await taken(task) for task in tasks.values()] == [False] * 3
    for order in ("a", "c", "d"):
        places.give_back()
        assert await taken(tasks[order])
        assert sum([await taken(task) for task in tasks.values()]) == ("a", "c", "d").index(order) + 1


async def test_place_given_to_one_who_leaves_goes_to_the_next() -> None:
    places = Places(1)
    await places.take("a")
    leaving, staying = asyncio.create_task(places.take("b")), asyncio.create_task(places.take("c"))
    assert not await taken(leaving)
    places.give_back()  # given to b in this moment, who leaves before noticing
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await taken(staying)


async def test_place_of_one_who_left_while_waiting_is_not_lost() -> None:
    places = Places(1)
    await places.take("a")
    leaving = asyncio.create_task(places.take("b"))
    assert not await taken(leaving)
    leaving.cancel()
    places.give_back()
    await asyncio.wait_for(places.take("c"), 1)
