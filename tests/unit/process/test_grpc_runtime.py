"""The environment variables that gRPC's native core reads."""

from __future__ import annotations

import pytest
from aisandbox_process import grpc_runtime


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    known: dict[str, str] = {}
    monkeypatch.setattr("os.environ", known)
    return known


def test_server_of_many_keeps_the_shared_epoll(environ: dict[str, str]) -> None:
    grpc_runtime.set_up_grpc()

    assert "GRPC_POLL_STRATEGY" not in environ
    assert "-event_engine_listener" in environ["GRPC_EXPERIMENTS"]


def test_each_thread_of_a_process_with_few_connections_polls_for_its_own(environ: dict[str, str]) -> None:
    grpc_runtime.set_up_grpc(few_connections=True)

    assert environ["GRPC_POLL_STRATEGY"] == "poll,epoll1"


def test_variable_that_the_user_has_set_is_kept(environ: dict[str, str]) -> None:
    environ |= {"GRPC_VERBOSITY": "DEBUG", "GRPC_EXPERIMENTS": "", "GRPC_POLL_STRATEGY": "epoll1"}
    before = dict(environ)

    grpc_runtime.set_up_grpc(few_connections=True)

    assert environ == before
