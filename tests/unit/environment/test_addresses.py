"""Addresses and how environments are distributed over them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aisandbox_environment.addresses import distribute_environments, expand_addresses, single_address
from aisandbox_environment.errors import InvalidAddress, SimulatorUnreachable
from hypothesis import given
from hypothesis import strategies as st


def test_list_keeps_its_order_without_duplicates() -> None:
    assert expand_addresses("b:2, a:1,b:2") == ["b:2", "a:1"]
    assert expand_addresses("[::1]:50052") == ["[::1]:50052"]


def test_single_address_has_no_blanks_and_no_second_one() -> None:
    assert single_address(" b:2\n") == "b:2"
    with pytest.raises(InvalidAddress, match="exactly one address is needed"):
        single_address("b:2,a:1")


def test_name_stands_for_its_records_sorted_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        assert (host, port) == ("sims.default.svc", 50052)
        records = ["10.0.0.9", "10.0.0.10", "10.0.0.9"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (record, port)) for record in records]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    expected = ["10.0.0.10:50052", "10.0.0.9:50052"]
    assert expand_addresses("dns:///sims.default.svc:50052") == expected
    assert expand_addresses("x:1,dns:///sims.default.svc:50052") == ["x:1", *expected]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["10.0.0.1", "fd00::1"], ["sims:50052"]),
        (["::1", "127.0.0.1", "::1"], ["sims:50052"]),
        (["fd00::1"], ["[fd00::1]:50052"]),
        (["10.0.0.2", "10.0.0.1", "fd00::2", "fd00::1"], ["10.0.0.1:50052", "10.0.0.2:50052"]),
        (["10.0.0.1", "fd00::2", "fd00::1"], ["[fd00::1]:50052", "[fd00::2]:50052"]),
    ],
)
def test_simulator_with_an_address_of_each_family_is_one(
    monkeypatch: pytest.MonkeyPatch, records: list[str], expected: list[str]
) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        families = [socket.AF_INET6 if ":" in record else socket.AF_INET for record in records]
        return [(family, 1, 6, "", (record, port)) for family, record in zip(families, records, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert expand_addresses("dns:///sims:50052") == expected


def test_name_without_records_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SimulatorUnreachable, match=r"'nowhere' does not resolve: .*Name or service"):
        expand_addresses("dns:///nowhere:1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:x",
        "http://host:1",
        "a:1,,b:2",
        "::1:5",
        "dns:///h",
        "a b:1",
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress, match=r"not an address|no port"):
        expand_addresses(text)


@given(st.integers(1, 50), st.integers(0, 500))
def test_environments_are_spread_evenly(addresses: int, more: int) -> None:
    shares = distribute_environments(addresses + more, addresses)
    assert len(shares) == addresses
    assert sum(shares) == addresses + more
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("environments", "addresses"), [(1, 2), (0, 1), (3, 0)])
def test_fewer_environments_than_addresses_are_refused(environments: int, addresses: int) -> None:
    with pytest.raises(ValueError, match="cannot be distributed"):
        distribute_environments(environments, addresses)
