"""A watch of kopf outlives what the API server says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aisandbox_operator.patience import make_kopf_patient, patient
from kopf._cogs.clients import watching
from kopf._cogs.clients.errors import APIError
from kopf._cogs.configs.configuration import OperatorSettings

EXPIRED = APIError("too old", status=410, headers={})


async def watched(error: Exception) -> list[object]:
    async def watch(**_: Any) -> AsyncIterator[object]:
        yield "event"
        raise error

    return [event async for event in patient(watch, 0.001)(resource="jobs")]


@pytest.mark.parametrize("error", [watching.WatchingError("no leader"), EXPIRED])
async def test_watch_ends_when_the_api_server_says_so(error: Exception) -> None:
    assert await watched(error) == ["event"]


async def test_other_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await watched(ZeroDivisionError())


async def test_kopf_begins_a_watch_anew_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    times = 0

    async def watch(**_: Any) -> AsyncIterator[Any]:
        nonlocal times
        times += 1
        if times == 1:
            raise watching.WatchingError("no leader")
        begun.set()
        yield {"type": "ADDED", "object": {}}

    monkeypatch.setattr(watching, "continuous_watch", watch)
    make_kopf_patient()
    where: Any = {"resource": "jobs", "namespace": "here"}
    async for event in watching.infinite_watch(settings=OperatorSettings(), **where):
        assert event == {"type": "ADDED", "object": {}}
        break
    assert begun.is_set()
