"""An HTTP server that answers as a test says, and what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aisandbox_kubernetes import Configuration


@dataclass
class ScriptedApi:
    """Answers with ``answers`` (status, JSON or text; status 0 closes the connection), the last one repeatedly."""

    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, {})])
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        kind = request.content_type if request.can_read_body else ""
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, dict(request.query), body, kind))
        status, said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0:
            assert request.transport is not None
            request.transport.close()
        if isinstance(said, str):
            return web.Response(text=said, status=status or 200, headers=self.headers)
        return web.json_response(said, status=status or 200, headers=self.headers)


@asynccontextmanager
async def serving(api: ScriptedApi) -> AsyncIterator[Configuration]:
    """Serves it on the loopback; the configuration has a token."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    configuration.api_key["BearerToken"] = "Bearer secret"
    try:
        yield configuration
    finally:
        await runner.cleanup()
