"""Which gRPC is used: direct or public. What they do is tested with sessions and with the inference-server's calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from aisandbox_process.environ import InvalidSetting
from aisandbox_process.grpc_direct import (
    Methods,
    choice,
    client_stream,
    open_stream,
    self_test,
    serve_methods,
    serve_streams,
    server_call,
    stream_server,
)
from aisandbox_process.grpc_direct import method_server as method_servers
from aisandbox_process.grpc_direct.client_stream import DirectStream, PublicStream
from aisandbox_process.passed_checks import PassedChecks
from structlog.testing import capture_logs

METHOD = "/test.Service/Method"


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is its default, and the self-test has not been run."""
    monkeypatch.delenv("GRPC_DIRECT", raising=False)
    monkeypatch.setattr(choice, "_works", None)


@pytest.fixture
def server() -> Iterator[grpc.Server]:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        yield server
        server.stop(0).wait()


def kind_of_stream() -> type:
    stream = open_stream("127.0.0.1:1", METHOD)
    stream.close()
    return type(stream)


def kind_of_servers(server: grpc.Server) -> tuple[type, type]:
    methods = Methods("test.Other", {}, {}, {}, status_of=lambda _, error: _raise(error), stopping=SimpleNamespace())  # type: ignore[arg-type]
    handler: Any = SimpleNamespace
    return type(serve_streams(server, METHOD, handler)), type(serve_methods(server, methods))


def _raise(error: Exception) -> grpc.Status:
    raise error


def test_locked_grpc_passes_the_self_test() -> None:
    assert self_test.find_problem() == ""


def test_direct_is_used_where_the_self_test_succeeds(server: grpc.Server) -> None:
    with capture_logs() as logs:
        assert kind_of_stream() is DirectStream
        assert kind_of_servers(server) == (stream_server.DirectStreamServer, method_servers.DirectMethodServer)
    assert logs == []


@pytest.mark.parametrize("problem", ["", "another gRPC"])
def test_self_test_that_passed_is_not_repeated_by_the_next_fork(monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    checks, runs = PassedChecks(), []
    checks.share()

    def find_problem() -> str:
        runs.append("run")
        return problem

    monkeypatch.setattr(self_test, "find_problem", find_problem)
    monkeypatch.setattr(choice, "PASSED_CHECKS", checks)
    for _ in range(2):
        monkeypatch.setattr(choice, "_works", None)
        assert choice.direct_is_used() is not bool(problem)
    assert len(runs) == (2 if problem else 1)


def test_grpc_direct_off_uses_the_public_api_without_a_self_test(
    server: grpc.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_DIRECT", "off")
    monkeypatch.setattr(self_test, "find_problem", lambda: pytest.fail("the self-test ran"))
    with capture_logs() as logs:
        assert kind_of_stream() is PublicStream
        assert kind_of_servers(server) == (stream_server.PublicStreamServer, method_servers.PublicMethodServer)
    assert logs == []


def test_grpc_direct_of_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_DIRECT", "no")
    with pytest.raises(InvalidSetting, match="GRPC_DIRECT: must be one of on, off, got 'no'"):
        open_stream("127.0.0.1:1", METHOD)


@pytest.mark.parametrize("module", [client_stream, stream_server, server_call], ids=lambda module: module.__name__)
def test_missing_private_name_falls_back_with_one_warning(
    server: grpc.Server, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    monkeypatch.setattr(module, "cygrpc", None)
    monkeypatch.setattr(self_test, "TIMEOUT_SECONDS", 1.0)
    with capture_logs() as logs:
        assert kind_of_stream() is PublicStream
        assert kind_of_servers(server) == (stream_server.PublicStreamServer, method_servers.PublicMethodServer)
    (warning,) = (entry for entry in logs if entry["log_level"] == "warning")
    assert warning["event"] == "direct gRPC failed its self-test, using the slower public API"
    assert warning["grpc_version"] == grpc.__version__
    assert warning["problem"]


def test_private_name_that_never_returns_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(_stream: object) -> bytes:
        released.wait()
        raise RuntimeError("released")

    monkeypatch.setattr(DirectStream, "receive", hang)
    assert self_test.find_problem(timeout=0.2) == "no result within 0.2 s"
    released.set()


def test_changed_message_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DirectStream, "receive", lambda _: b"something else")
    assert "the reply on a stream is b'something else', expected b'self-test'" in self_test.find_problem()
