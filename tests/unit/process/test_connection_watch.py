"""Connections of an address that has too many are ended, the newest first, and no others."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from aisandbox_process import ConnectionLimits, address_group, connection_limits
from aisandbox_process.connection_watch import ConnectionWatch

resource: Any = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks at /proc, and 127.0.0.2 is an address there only"
)
Pair = tuple[socket.socket, socket.socket]


class Port:
    """A server at a port; ``connect`` gives both ends of a connection from an address of this machine."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._listening = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.number: int = self._listening.getsockname()[1]

    def connect(self, host: str) -> Pair:
        client = socket.create_connection(("127.0.0.1", self.number), 30, source_address=(host, 0))
        server, _ = self._listening.accept()
        server.settimeout(30)
        for each in (client, server):
            self._opened.enter_context(closing(each))
        return client, server


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def is_open(pair: Pair) -> bool:
    client, server = pair
    server.setblocking(False)
    try:
        return server.recv(1) != b""
    except BlockingIOError:
        client.setblocking(False)
        try:
            return client.recv(1) != b""
        except BlockingIOError:
            return True


def test_newest_connections_of_an_address_with_too_many_are_ended(opened: ExitStack) -> None:
    port, other = Port(opened), Port(opened)
    watch = ConnectionWatch({port.number: ConnectionLimits(100, of_address=3)})
    opened.callback(watch.close)
    kept = [port.connect("127.0.0.2") for _ in range(3)]
    honest = [port.connect("127.0.0.1") for _ in range(2)]
    elsewhere = [other.connect("127.0.0.2") for _ in range(9)]
    assert watch.look() == 0
    late = [port.connect("127.0.0.2") for _ in range(4)]
    assert watch.look() == 4
    assert [is_open(pair) for pair in late] == [False] * 4
    assert all(is_open(pair) for pair in (*kept, *honest, *elsewhere))
    for pair in late:
        pair[1].close()
    assert watch.look() == 0
    kept[0][1].close()
    assert is_open(port.connect("127.0.0.2"))
    assert watch.look() == 0


def test_connections_are_ended_also_without_a_free_file(opened: ExitStack) -> None:
    port = Port(opened)
    watch = ConnectionWatch({port.number: ConnectionLimits(100, of_address=3)})
    opened.callback(watch.close)
    pairs = [port.connect("127.0.0.2") for _ in range(5)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        most = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        ended = watch.look()
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert ended == 2
    assert [is_open(pair) for pair in pairs] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("hard", "accepted", "most"), [(4096, 4096, 4096), (resource.RLIM_INFINITY, 10_240, 10_240), (8192, 0, 256)]
)
def test_as_many_files_as_the_system_takes_may_be_open(
    hard: int, accepted: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [256, hard]

    def set_limit(_which: int, wanted: tuple[int, int]) -> None:
        if wanted[0] != accepted:
            raise ValueError("current limit exceeds maximum limit")
        limits[:] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert connection_limits(0.5).number == most // 2
    assert limits == [most, hard]
    limits[0] = 256
    assert connection_limits(0.5, 100).number == 100
    assert limits == [most, hard], "also for a number that is set"
    assert connection_limits(0.5, 1_000_000).number == most // 2, "all ports together leave some files"


def test_share_of_an_address_is_less_than_what_a_port_has() -> None:
    assert connection_limits(0.5, 8) == ConnectionLimits(8, 6)
    assert connection_limits(0.5, 8, 2) == ConnectionLimits(8, 2)
    assert connection_limits(0.5, 8, 100) == ConnectionLimits(8, 8)
    assert connection_limits(0.5, 1) == ConnectionLimits(1, 1)


def test_addresses_that_one_client_may_choose_from_count_as_one() -> None:
    groups = {
        "10.0.0.1": "10.0.0.1",
        "::ffff:10.0.0.1": "10.0.0.1",
        "%5B2001:db8::1%5D": "2001:db8::/64",
        "2001:db8::ffff:1": "2001:db8::/64",
        "fe80::1%eth0": "fe80::/64",
        "::1": "::1",
        "unix": "unix",
    }
    assert {host: address_group(host) for host in groups} == groups
