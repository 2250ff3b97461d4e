"""The calls of the Kubernetes API that the service makes, as JSON.

Owns the connection, deadlines, retries and what an answer's code means. Resources stay plain JSON here: the client's
generated models would only be taken apart again. Must not know runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aisandbox_crds.errors import FieldError
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from aisandbox_api.errors import BackendUnavailable, ClusterRefused, ServiceStopping, StartupError

Json = dict[str, Any]
Observe = Callable[[str, str, str], None]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
CALL_SECONDS = 5.0
TRIES = 3
FIRST_PAUSE_SECONDS = 0.2
SILENCE_SECONDS = 90.0
"""A watch stream that says nothing for longer is taken for dead; bookmarks come about every minute."""

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)  # ValueError: a line or a URL too long


async def connect() -> ApiClient:
    """The pod's cluster, else the current context of KUBECONFIG. Raises StartupError."""
    configuration = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise StartupError(
            f"BACKEND kubernetes: neither a pod's service account nor a kubeconfig can be used ({error}); run the "
            "service in the cluster, or set KUBECONFIG"
        ) from error
    return ApiClient(configuration)


class Cluster:
    """``observe`` is told verb, resource and code of every call. For one event loop."""

    def __init__(self, client: ApiClient, observe: Observe = lambda verb, resource, code: None) -> None:
        self._client = client
        self._observe = observe
        self._closed = False

    async def close(self) -> None:
        """Ends all connections; calls that are under way raise ServiceStopping."""
        self._closed = True
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Raises BackendUnavailable, ClusterRefused."""
        return await self._call("GET", path, query=query)

    async def create(self, path: str, body: Json) -> Json:
        """Raises BackendUnavailable, ClusterRefused. May have been created by a try whose answer was lost."""
        return await self._call("POST", path, body, "application/json")

    async def patch(self, path: str, body: Json) -> Json:
        """A JSON merge patch. Raises BackendUnavailable, ClusterRefused."""
        return await self._call("PATCH", path, body, MERGE_PATCH)

    async def apply(self, path: str, body: Json, manager: str) -> Json:
        """Server-side apply with force, tried once. Raises BackendUnavailable, ClusterRefused."""
        query = {"fieldManager": manager, "force": "true"}
        return await self._call("PATCH", path, body, APPLY_PATCH, query, tries=1)

    async def watch(self, path: str, version: str, seconds: int) -> AsyncGenerator[Json]:
        """The events after ``version``, until the server ends the stream after ``seconds``.

        The first one is a bookmark of our own: the stream is open.

        Raises BackendUnavailable, ClusterRefused (410: ``version`` is too old).
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        timeout = aiohttp.ClientTimeout(total=seconds + 30, sock_connect=CALL_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            async with self._response("GET", path, None, "", query, timeout) as response:
                self._observe("WATCH", _resource_of(path), str(response.status))
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
                while line := await response.content.readline():
                    yield _event(line)
        except _CONNECTION_ERRORS as error:
            raise BackendUnavailable(f"the watch of the Kubernetes API broke: {_words(error)}") from error

    async def _call(
        self,
        verb: str,
        path: str,
        body: Json | None = None,
        content_type: str = "",
        query: Mapping[str, str] | None = None,
        tries: int = TRIES,
    ) -> Json:
        """Tried again after what a retry can cure; every call made here may be."""
        for attempt in range(1, tries + 1):
            try:
                return await self._try(verb, path, body, content_type, query or {})
            except BackendUnavailable:
                if attempt == tries:
                    raise
            await asyncio.sleep(FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311
        raise AssertionError("tries is at least 1")

    async def _try(self, verb: str, path: str, body: Json | None, content_type: str, query: Mapping[str, str]) -> Json:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        try:
            async with self._response(verb, path, body, content_type, query, timeout) as response:
                code, data = response.status, await response.read()
        except _CONNECTION_ERRORS as error:
            self._observe(verb, _resource_of(path), type(error).__name__)
            raise BackendUnavailable(f"the Kubernetes API does not answer: {_words(error)}") from error
        except RuntimeError as error:  # what the closed client says
            if self._closed:
                raise ServiceStopping("the service is stopping: send the call again in a moment") from error
            raise
        self._observe(verb, _resource_of(path), str(code))
        if not 200 <= code < 300:
            raise _refusal(code, data)
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise BackendUnavailable("the Kubernetes API answered with something else than JSON") from error
        return answer if isinstance(answer, dict) else {}

    @asynccontextmanager
    async def _response(
        self,
        verb: str,
        path: str,
        body: Json | None,
        content_type: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's, which tells a silent peer from a slow one
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json", **({"Content-Type": content_type} if content_type else {})}
        parameters = await self._client.param_serialize(
            verb,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*parameters, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()


def _event(line: bytes) -> Json:
    """An event of a watch. Raises ValueError; BackendUnavailable or ClusterRefused for the one that ends it."""
    event = json.loads(line)
    if not (isinstance(event, dict) and isinstance(event.get("type"), str) and isinstance(event.get("object"), dict)):
        raise ValueError("a line is no watch event")
    if event["type"] == "ERROR":
        status = event["object"]
        raise _refusal(int(status.get("code", 500)), json.dumps(status).encode())
    return event


def _refusal(code: int, data: bytes) -> BackendUnavailable | ClusterRefused:
    try:
        status = json.loads(data)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))[:2000]
        details: Sequence[Any] = (status.get("details") or {}).get("causes") or ()
        causes = [FieldError(str(cause.get("field", "")), str(cause.get("message", ""))) for cause in details]
    except (ValueError, AttributeError):
        reason, message, causes = "", data[:200].decode(errors="replace"), []
    if code in _TRANSIENT:
        return BackendUnavailable(f"the Kubernetes API is not able to answer ({code} {reason}): {message}")
    return ClusterRefused(code, reason, message, causes)


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:300]


def _resource_of(path: str) -> str:
    """The resource of a path: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/status -> RESOURCE/status."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join(parts[:1] + parts[2:])
