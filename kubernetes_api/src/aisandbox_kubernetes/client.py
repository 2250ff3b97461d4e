"""Calls of the Kubernetes API as JSON.

Owns connections, time limits, retries, content types and pages. Objects stay plain JSON: the official client's
generated models would only be taken apart again. Must not know any kind of resource.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from aisandbox_kubernetes.errors import ClientClosed, Unavailable, status_error

Json = dict[str, Any]

PAGE_SIZE = 500
SILENCE_SECONDS = 90.0
"""A watch that sends nothing for longer has lost its connection; bookmarks come about every minute."""

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
_CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)  # ValueError: a line or a URL too long


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is made at most, and the first pause in between, in seconds; each pause is twice the last.

    Only what is Unavailable is tried again. A call that is retried may have been done by a try whose answer was lost.
    """

    tries: int = 1
    first_pause_seconds: float = 0.4


NO_RETRY = Retry()


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has ended, for metrics.

    ``verb`` is Kubernetes' (get, list, create, patch, apply, delete, watch), ``resource`` such as
    "trainingruns/status", ``outcome`` the HTTP status or, without an answer, the name of the error.
    """

    verb: str
    method: str
    resource: str
    outcome: str
    is_answered: bool


@dataclass(frozen=True, slots=True)
class _Request:
    verb: str
    method: str
    path: str
    query: Mapping[str, str]
    body: Json | None = None
    content_type: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.path.removeprefix('/apis/').removeprefix('/api/')}"


class Client:
    """Calls one API server. For one event loop; :meth:`close` it.

    ``name`` of the program: its user agent, and the field manager of what it creates and patches. ``call_seconds`` and
    ``connect_seconds`` limit one try. ``observe`` is called after every try. All methods raise
    CallFailed and ClientClosed.
    """

    def __init__(
        self,
        configuration: Configuration,
        name: str,
        *,
        call_seconds: float = 15.0,
        connect_seconds: float | None = 5.0,
        retry: Retry = NO_RETRY,
        observe: Callable[[Call], None] = lambda call: None,
    ) -> None:
        self._api: Any = ApiClient(configuration)
        self._api.user_agent = self._name = name
        self._timeout = aiohttp.ClientTimeout(total=call_seconds, sock_connect=connect_seconds)
        self._retry = retry
        self._observe = observe
        self._is_closed = False

    async def close(self) -> None:
        """Closes all connections; calls under way raise ClientClosed."""
        self._is_closed = True
        await self._api.close()

    async def get(self, path: str) -> Json:
        """The object. Raises NotFound."""
        return await self._call(_Request("get", "GET", path, {}))

    async def pages(self, path: str, label_selector: str = "", field_selector: str = "") -> AsyncGenerator[Json]:
        """The objects of a collection, as lists of at most PAGE_SIZE items. Raises Expired if that takes too long."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {"limit": str(PAGE_SIZE), **{key: value for key, value in selectors.items() if value}}
        while True:
            page = await self._call(_Request("list", "GET", path, query))
            yield page
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return
            query = {**query, "continue": str(more)}

    async def create(self, path: str, body: Json) -> Json:
        """Makes an object in the collection. Raises Conflict if its name is taken, perhaps by an earlier try."""
        return await self._call(_Request("create", "POST", path, {"fieldManager": self._name}, body, _JSON))

    async def merge_patch(self, path: str, body: Json) -> Json:
        """A JSON merge patch (RFC 7386). Raises Conflict if a uid or resourceVersion in ``body`` does not match."""
        return await self._patch(path, body, _MERGE_PATCH)

    async def strategic_merge_patch(self, path: str, body: Json) -> Json:
        """A merge patch that merges lists by their keys, such as conditions by type."""
        return await self._patch(path, body, _STRATEGIC_PATCH)

    async def apply(
        self, path: str, body: Json, field_manager: str = "", *, force: bool = True, is_strict: bool = False
    ) -> Json:
        """Server-side apply, tried once. ``field_manager`` empty: the client's name.

        Not forced, a field that another manager has set to something else is a Conflict. ``is_strict``: unknown fields
        are refused.
        """
        query = {"fieldManager": field_manager or self._name, "force": "true" if force else "false"}
        if is_strict:
            query["fieldValidation"] = "Strict"
        return await self._call(_Request("apply", "PATCH", path, query, body, _APPLY_PATCH), NO_RETRY)

    async def delete(self, path: str, body: Json) -> Json:
        """Deletes the object; ``body`` has DeleteOptions. Raises NotFound, and Conflict for a failed precondition."""
        return await self._call(_Request("delete", "DELETE", path, {}, body, _JSON))

    async def watch(self, path: str, resource_version: str, seconds: int) -> AsyncGenerator[Json]:
        """The events after ``resource_version``, until the server ends the stream after ``seconds``.

        The first event is a bookmark made here: the stream is open. Raises Expired if the version is too old.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        request = _Request("watch", "GET", path, query)
        connect = self._timeout.sock_connect or self._timeout.total
        timeout = aiohttp.ClientTimeout(total=seconds + 30, sock_connect=connect, sock_read=SILENCE_SECONDS)
        try:
            async with self._response(request, timeout) as response:
                self._observe_call(request, str(response.status))
                if response.status != 200:
                    raise status_error(str(request), response.status, await response.read())
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": resource_version}}}
                while line := await response.content.readline():
                    yield _watch_event(request, line)
        except _CONNECTION_ERRORS as error:
            raise Unavailable(str(request), f"the watch broke: {_describe(error)}") from error

    async def _patch(self, path: str, body: Json, content_type: str) -> Json:
        query = {"fieldManager": self._name}
        return await self._call(_Request("patch", "PATCH", path, query, body, content_type))

    async def _call(self, request: _Request, retry: Retry | None = None) -> Json:
        retry = retry or self._retry
        pause = retry.first_pause_seconds
        for _ in range(retry.tries - 1):
            try:
                return await self._try(request)
            except Unavailable:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            pause *= 2
        return await self._try(request)

    async def _try(self, request: _Request) -> Json:
        try:
            async with self._response(request, self._timeout) as response:
                status, data = response.status, await response.read()
        except _CONNECTION_ERRORS as error:
            self._observe_call(request, type(error).__name__, is_answered=False)
            raise Unavailable(str(request), f"no answer: {_describe(error)}") from error
        except RuntimeError as error:  # the official client's, when it is closed meanwhile
            if self._is_closed:
                raise ClientClosed(f"{request}: the client is closed") from error
            raise
        self._observe_call(request, str(status))
        if not 200 <= status < 300:
            raise status_error(str(request), status, data, response.headers.get("Retry-After"))
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise Unavailable(str(request), "the answer is not JSON") from error
        return answer if isinstance(answer, dict) else {}

    @asynccontextmanager
    async def _response(
        self,
        request: _Request,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's, which tells a silent server from a slow one
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._is_closed:
            raise ClientClosed(f"{request}: the client is closed")
        headers = {"Accept": _JSON, **({"Content-Type": request.content_type} if request.content_type else {})}
        parameters = await self._api.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params=headers,
            body=request.body,
            auth_settings=["BearerToken"],
        )
        answer = await self._api.call_api(*parameters, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    def _observe_call(self, request: _Request, outcome: str, is_answered: bool = True) -> None:
        self._observe(Call(request.verb, request.method, resource_of(request.path), outcome, is_answered))


def resource_of(path: str) -> str:
    """The resource of a path: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/status -> RESOURCE/status."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join(parts[:1] + parts[2:])


def _watch_event(request: _Request, line: bytes) -> Json:
    """An event of a watch. Raises ValueError, and CallFailed for the event that ends the watch."""
    event = json.loads(line)
    if not (isinstance(event, dict) and isinstance(event.get("type"), str) and isinstance(event.get("object"), dict)):
        raise ValueError("a line is not a watch event")
    if event["type"] == "ERROR":
        status = event["object"]
        raise status_error(str(request), int(status.get("code", 500)), json.dumps(status).encode())
    return event


def _describe(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:300]
