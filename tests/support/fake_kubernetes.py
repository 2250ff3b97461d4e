"""A Kubernetes API server for tests: TrainingRuns of one namespace, TokenReviews and pods, over real HTTP.

It keeps to what the service relies on: versions that grow, list and watch from a version, preconditions, names that
are taken, server-side apply by field owner (whole top-level fields of the status). A test sets faults, one for each
call that is to have one.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

NAMESPACE = "test"
RUNS = f"/apis/aisandbox.dev/v1alpha1/namespaces/{NAMESPACE}/trainingruns"
Json = dict[str, Any]
DROP, DROP_AFTER = "drop", "drop after doing it"


class FakeKubernetes:
    """Start it, give :attr:`url` to a client, change it from the test."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.pods: dict[str, Json] = {}
        self.tokens: dict[str, Json] = {}
        self.slices: list[Json] = []
        self.refused_permissions: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.faults: dict[tuple[str, str], deque[str | tuple[int, str]]] = defaultdict(deque)
        self.version = 100
        self.oldest = 100
        self.refuse_all = False
        self.page_size = 1000
        self.created_at = "2025-01-01T00:00:00Z"
        self._history: list[tuple[int, str, Json]] = []
        self._changed = asyncio.Event()
        self._streams: set[web.StreamResponse] = set()
        self._dropped = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._managed: dict[str, dict[str, set[str]]] = defaultdict(dict)
        self.url = ""

    async def start(self) -> None:
        app = web.Application(middlewares=[self._faulty])
        app.router.add_get(RUNS, self._list)
        app.router.add_post(RUNS, self._create)
        app.router.add_get(RUNS + "/{name}", self._get)
        app.router.add_patch(RUNS + "/{name}", self._patch)
        app.router.add_patch(RUNS + "/{name}/status", self._apply_status)
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        app.router.add_get(f"/api/v1/namespaces/{NAMESPACE}/pods/{{name}}", self._pod)
        app.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self._review_permission)
        app.router.add_get(f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", self._endpoint_slices)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        self.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    # what a test does

    def fail(self, verb: str, resource: str, *faults: str | tuple[int, str]) -> None:
        """The next calls of that kind (``resource``: trainingruns, trainingruns/status, tokenreviews, pods, watch)."""
        self.faults[verb, resource].extend(faults)

    def count(self, verb: str, resource: str) -> int:
        return self.calls.count((verb, resource))

    def add(self, name: str, spec: Json | None = None, status: Json | None = None, **metadata: Any) -> Json:
        """As kubectl apply does."""
        resource = {
            "apiVersion": "aisandbox.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": name, **metadata},
            "spec": spec or {"algorithm": "PPO", "totalTimesteps": 1000, "environment": {"fake": {}}},
        }
        if status:
            resource["status"] = status
        return self._add(resource)

    def set_status(self, name: str, **fields: Any) -> None:
        """As the operator does."""
        resource = self._copy(name)
        resource.setdefault("status", {}).update(fields)
        self._put("MODIFIED", resource)

    def delete(self, name: str) -> None:
        resource = self._copy(name)
        del self.objects[name]
        self._put("DELETED", resource)

    def bookmark(self) -> None:
        self.version += 1
        self._put("BOOKMARK", {"metadata": {}}, new_version=False)

    def compact(self) -> None:
        """Forgets all history: a watch from an older version gets 410."""
        self.version += 1
        self.oldest = self.version
        self._history.clear()

    def drop_watches(self) -> None:
        """Cuts all streams, as a broken network does."""
        self._dropped.set()
        self._dropped = asyncio.Event()

    # what it answers

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        resource = parts[-1] if len(parts) == 4 else parts[4 if parts[0] == "api" else 5]
        if parts[-1] == "status":
            resource += "/status"
        if request.query.get("watch"):
            resource = "watch"
        self.calls.append((request.method, resource))
        if self.refuse_all:
            return _error(503, "ServiceUnavailable", "no server")
        waiting = self.faults[request.method, resource]
        fault = waiting.popleft() if waiting else None
        if isinstance(fault, tuple):
            return _error(fault[0], fault[1], "as the test wishes")
        if fault == DROP_AFTER:
            await handler(request)
        if fault in (DROP, DROP_AFTER):
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        response: web.StreamResponse = await handler(request)
        return response

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            return await self._watch(request)
        names = sorted(self.objects)
        start = int(request.query.get("continue", 0))
        page = names[start : start + self.page_size]
        more = start + self.page_size < len(names)
        metadata = {
            "resourceVersion": str(self.version),
            **({"continue": str(start + self.page_size)} if more else {}),
        }
        items = [{k: v for k, v in self.objects[name].items() if k not in ("apiVersion", "kind")} for name in page]
        return web.json_response({"kind": "TrainingRunList", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        dropped = self._dropped
        if seen < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return response
        async with asyncio.timeout(float(request.query.get("timeoutSeconds", 60))):
            while True:
                changed = self._changed
                for version, kind, resource in list(self._history):
                    if version > seen:
                        await response.write(json.dumps({"type": kind, "object": resource}).encode() + b"\n")
                        seen = version
                waits = [asyncio.ensure_future(event.wait()) for event in (changed, dropped)]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                if dropped.is_set():
                    if request.transport is not None:
                        request.transport.abort()
                    return response

    async def _create(self, request: web.Request) -> web.StreamResponse:
        resource = await request.json()
        if resource["metadata"]["name"] in self.objects:
            return _error(409, "AlreadyExists", "it already exists")
        return web.json_response(self._add(resource), status=201)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        resource = self.objects.get(request.match_info["name"])
        return web.json_response(resource) if resource else _error(404, "NotFound", "not found")

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        body, name = await request.json(), request.match_info["name"]
        if (refusal := self._precondition(name, body)) is not None:
            return refusal
        resource = self._copy(name)
        resource["spec"].update(body["spec"])
        resource["metadata"]["generation"] = resource["metadata"].get("generation", 1) + 1
        return web.json_response(self._put("MODIFIED", resource))

    async def _apply_status(self, request: web.Request) -> web.StreamResponse:
        body, name = await request.json(), request.match_info["name"]
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        if (refusal := self._precondition(name, body)) is not None:
            return refusal
        resource = self._copy(name)
        status = resource.setdefault("status", {})
        owned = self._managed[name].get(request.query["fieldManager"], set())
        for field in owned - set(body["status"]):
            status.pop(field, None)
        status.update(body["status"])
        self._managed[name][request.query["fieldManager"]] = set(body["status"])
        return web.json_response(self._put("MODIFIED", resource))

    def _precondition(self, name: str, body: Json) -> web.StreamResponse | None:
        if name not in self.objects:
            return _error(404, "NotFound", "not found")
        known = self.objects[name]["metadata"]
        for field in ("resourceVersion", "uid"):
            if body["metadata"].get(field, known[field]) != known[field]:
                return _error(409, "Conflict", "the object has been modified")
        return None

    async def _review(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        status = self.tokens.get(body["spec"]["token"], {"authenticated": False})
        if status.get("authenticated"):
            status = {**status, "audiences": [a for a in body["spec"]["audiences"] if a in status["audiences"]]}
        return web.json_response({**body, "status": status}, status=201)

    async def _pod(self, request: web.Request) -> web.StreamResponse:
        pod = self.pods.get(request.match_info["name"])
        return web.json_response(pod) if pod else _error(404, "NotFound", "no such pod")

    async def _review_permission(self, request: web.Request) -> web.StreamResponse:
        """``refused_permissions`` are "VERB RESOURCE"."""
        body = await request.json()
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        allowed = f"{asked['verb']} {resource}" not in self.refused_permissions
        return web.json_response({**body, "status": {"allowed": allowed}}, status=201)

    async def _endpoint_slices(self, request: web.Request) -> web.StreamResponse:
        key, _, name = request.query["labelSelector"].partition("=")
        found = [each for each in self.slices if each["metadata"]["labels"].get(key) == name]
        return web.json_response({"kind": "EndpointSliceList", "metadata": {}, "items": found})

    def set_endpoints(self, service: str, *ports: int, ending: int | None = None) -> None:
        """The ready endpoints of a Service are at these ports of 127.0.0.1; at ``ending`` is one that ends."""
        ready = {"ready": True, "serving": True, "terminating": False}
        leaving = {"ready": False, "serving": True, "terminating": True}
        entries = [(port, ready) for port in ports] + [(port, leaving) for port in (ending,) if port is not None]
        self.slices = [
            {
                "metadata": {"name": f"{service}-{port}", "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [{"name": "metrics", "port": 1}, {"name": "grpc", "port": port}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": conditions}],
            }
            for port, conditions in entries
        ]

    def add_pod(self, name: str, run: str, token: str, **metadata: Any) -> None:
        """A trainer's pod of ``run``, which is there, and its token."""
        uid = f"uid-of-{name}"
        run_uid = self.objects[run]["metadata"]["uid"]
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": uid,
                "labels": {"aisandbox.dev/run": run},
                "ownerReferences": [{"kind": "Job", "name": run, "controller": True, "uid": "j"}],
                **metadata,
            },
            "spec": {"containers": [{"name": "trainer", "env": [{"name": "RUN_UID", "value": run_uid}]}]},
        }
        self.tokens[token] = {
            "authenticated": True,
            "audiences": ["aisandbox-progress"],
            "user": {
                "username": f"system:serviceaccount:{NAMESPACE}:aisandbox-trainer",
                "extra": {
                    "authentication.kubernetes.io/pod-name": [name],
                    "authentication.kubernetes.io/pod-uid": [uid],
                },
            },
        }

    def _add(self, resource: Json) -> Json:
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": self.created_at, "generation": 1}
        resource["metadata"] = {**metadata, **resource["metadata"]}
        return self._put("ADDED", resource)

    def _copy(self, name: str) -> Json:
        copy: Json = json.loads(json.dumps(self.objects[name]))
        return copy

    def _put(self, kind: str, resource: Json, new_version: bool = True) -> Json:
        self.version += new_version
        resource["metadata"]["resourceVersion"] = str(self.version)
        if kind in ("ADDED", "MODIFIED"):
            self.objects[resource["metadata"]["name"]] = resource
        self._history.append((self.version, kind, json.loads(json.dumps(resource))))
        self._changed.set()
        self._changed = asyncio.Event()
        return resource


def _error(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(status, status=code)
