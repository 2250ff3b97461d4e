"""Which way the bytes go."""

from __future__ import annotations

import pytest
from aisandbox_environment import client_stream, direct_sessions
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import FakeExternalEnvAdapter
from aisandbox_environment.client_stream import DirectStream, PublicStream, open_stream
from aisandbox_environment.direct_sessions import DirectSessions
from aisandbox_environment.server import create_environment_server


def test_the_locked_grpc_allows_the_fast_way_on_both_ends() -> None:
    stream = open_stream("127.0.0.1:1")
    assert isinstance(stream, DirectStream)
    stream.close()
    assert DirectSessions.are_possible()


def test_without_grpcs_inner_names_the_public_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_stream, "cygrpc", object())
    stream = open_stream("127.0.0.1:1")
    assert isinstance(stream, PublicStream)
    stream.close()
    monkeypatch.setattr(direct_sessions, "cygrpc", None)
    server = create_environment_server(AdapterSimulation(FakeExternalEnvAdapter))
    assert server._direct is None
    server.stop(0)
