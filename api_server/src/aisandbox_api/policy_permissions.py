"""The calls about policies for callers who are authenticated: each is for a run that the caller may act with.

Owns where the run is in a request, also in one that is not parsed. Must not know what answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from aisandbox_access import Permission
from aisandbox_crds import FieldError
from aisandbox_wire import read_fields
from google.protobuf.message import DecodeError

from aisandbox_api.errors import InvalidRequest
from aisandbox_api.requests import given_run_id
from aisandbox_api.run_permissions import RunPermissions
from aisandbox_api.status_codes import abort_on_error

Context = grpc.aio.ServicerContext[Any, Any]

MOST_FIELDS = 16_384
"""Fields of a request that are looked through for its run, which is its first."""
_RUN_ID, _REQUEST = 1, 1
"""The numbers of run_id in every request, and of request in ActStreamRequest."""


class PolicyPermissions:
    """The five calls of ``calls``, after a check. ``raw``: they take and return bytes."""

    def __init__(self, calls: Any, permissions: RunPermissions, *, raw: bool) -> None:
        self._calls = calls
        self._permissions = permissions
        self._raw = raw

    async def Act(self, request: Any, context: Context) -> Any:  # noqa: N802
        """See the proto."""
        await self._check(Permission.ACT, request, context)
        return await self._calls.Act(request, context)

    async def ActBatch(self, request: Any, context: Context) -> Any:  # noqa: N802
        """See the proto."""
        await self._check(Permission.ACT, request, context)
        return await self._calls.ActBatch(request, context)

    async def DescribeModel(self, request: Any, context: Context) -> Any:  # noqa: N802
        """See the proto."""
        await self._check(Permission.MODEL, request, context)
        return await self._calls.DescribeModel(request, context)

    async def GetModel(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """See the proto."""
        await self._check(Permission.MODEL, request, context)
        async with contextlib.aclosing(self._calls.GetModel(request, context)) as replies:
            async for reply in replies:
                yield reply

    async def ActStream(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """See the proto. A request for a run that the caller may not act with ends the stream."""
        checked = self._checked(requests, context)
        async with (
            contextlib.aclosing(self._calls.ActStream(checked, context)) as replies,
            contextlib.aclosing(checked),
        ):
            async for reply in replies:
                yield reply

    async def _checked(self, requests: AsyncIterator[Any], context: Context) -> AsyncGenerator[Any, None]:
        run_id = ""
        async for request in requests:
            async with abort_on_error(context):
                run_id = self._run_id(request, nested=True) or run_id
                if run_id:  # also without a new run: the permission may have been taken away
                    await self._permissions.run(Permission.ACT, run_id, context.peer())
            yield request

    async def _check(self, permission: Permission, request: Any, context: Context) -> None:
        async with abort_on_error(context):
            await self._permissions.run(permission, given_run_id(self._run_id(request)), context.peer())

    def _run_id(self, request: Any, *, nested: bool = False) -> str:
        if self._raw:
            return run_id_of(request, nested=nested)
        run_id: str = request.request.run_id if nested else request.run_id
        return run_id


def run_id_of(data: bytes, *, nested: bool = False) -> str:
    """The run_id of a serialized request, or of the ``nested`` one in an ActStreamRequest; the last one, as a parser
    takes it. Raises InvalidRequest.
    """
    found = b""
    try:
        messages = [memoryview(data)]
        if nested:
            messages = _contents(messages[0], _REQUEST)
        for message in messages:
            for value in _contents(message, _RUN_ID):
                found = bytes(value)
        return found.decode()
    except (DecodeError, UnicodeDecodeError):
        raise InvalidRequest([FieldError("request", "cannot be parsed: it is not a message of this method")]) from None


def _contents(message: memoryview, number: int) -> list[memoryview]:
    found: list[memoryview] = []
    for count, (field, _, value) in enumerate(read_fields(message)):
        if count >= MOST_FIELDS:
            raise InvalidRequest([FieldError("request", f"has more than {MOST_FIELDS:,} fields: pack its numbers")])
        if field == number and isinstance(value, memoryview):
            found.append(value)
    return found
