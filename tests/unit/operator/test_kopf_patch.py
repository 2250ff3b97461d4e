"""kopf's watches survive what the API server answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aisandbox_operator import kopf_patch
from aisandbox_operator.kopf_patch import restarting
from kopf._cogs.clients import watching
from kopf._cogs.clients.errors import APIError
from kopf._cogs.configs.configuration import OperatorSettings

EXPIRED = APIError("too old", status=410, headers={})
FAILURES = (APIError, watching.WatchingError)


@pytest.fixture(autouse=True)
def kopf_as_released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does to kopf is undone."""
    monkeypatch.setattr(watching, "continuous_watch", watching.continuous_watch)
    yield
    monkeypatch.undo()


async def events_until(error: Exception) -> list[object]:
    async def watch(**_: Any) -> AsyncIterator[object]:
        yield "event"
        raise error

    return [event async for event in restarting(watch, FAILURES, 0.001)(resource="jobs")]


@pytest.mark.parametrize("error", [watching.WatchingError("no leader"), EXPIRED])
async def test_watch_ends_where_it_would_raise_an_answer_of_the_api_server(error: Exception) -> None:
    assert await events_until(error) == ["event"]


async def test_watch_raises_other_errors() -> None:
    with pytest.raises(ZeroDivisionError):
        await events_until(ZeroDivisionError())


async def test_patched_kopf_restarts_a_watch_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()
    times = 0

    async def watch(**_: Any) -> AsyncIterator[Any]:
        nonlocal times
        times += 1
        if times == 1:
            raise watching.WatchingError("no leader")
        started.set()
        yield {"type": "ADDED", "object": {}}

    monkeypatch.setattr(watching, "continuous_watch", watch)
    monkeypatch.setattr(kopf_patch, "FIRST_PAUSE_SECONDS", 0.001)
    assert await kopf_patch.install()
    where: Any = {"resource": "jobs", "namespace": "here"}
    async for event in watching.infinite_watch(settings=OperatorSettings(), **where):
        assert event == {"type": "ADDED", "object": {}}
        break
    assert started.is_set()


async def test_patch_is_installed_once() -> None:
    assert await kopf_patch.install()
    patched = watching.continuous_watch
    assert await kopf_patch.install()
    assert watching.continuous_watch is patched


async def test_kopf_without_the_private_names_is_used_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(watching, "WatchingError")
    before = watching.continuous_watch
    assert not await kopf_patch.install()
    assert watching.continuous_watch is before


async def test_kopf_that_watches_in_another_way_is_used_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    async def another(**_: Any) -> AsyncIterator[Any]:
        yield {"type": "MODIFIED", "object": {}}

    monkeypatch.setattr(watching, "infinite_watch", another)
    before = watching.continuous_watch
    assert not await kopf_patch.install()
    assert watching.continuous_watch is before
