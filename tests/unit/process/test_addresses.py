"""Addresses of the form host:port."""

from __future__ import annotations

import pytest
from aisandbox_process.addresses import InvalidHostPort, join_host_port, split_host_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("sim-0.sims:50061", "sim-0.sims", 50061),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:5", "fe80::1%eth0", 5),
    ],
)
def test_address_is_split_and_joined(text: str, host: str, port: int) -> None:
    assert split_host_port(text) == (host, port)
    assert join_host_port(host, port) == text


def test_host_that_has_brackets_keeps_them() -> None:
    assert join_host_port("[::1]", 5) == "[::1]:5"


@pytest.mark.parametrize("text", ["", "host", ":1", "http://host:1", "::1:5", "a b:1", "[host]:1", "[::1:5", "host]:1"])
def test_text_without_a_host_is_no_address(text: str) -> None:
    with pytest.raises(InvalidHostPort) as caught:
        split_host_port(text)
    assert str(caught.value) == f"{text!r} is not an address: use host:port"


@pytest.mark.parametrize("text", ["host:", "host:0", "host:65536", "host:x", "host:-1", "host:٣"])
def test_text_without_a_port_is_no_address(text: str) -> None:
    with pytest.raises(InvalidHostPort) as caught:
        split_host_port(text)
    assert str(caught.value) == f"{text!r} has no port between 1 and 65535: use host:port"
    assert (caught.value.text, caught.value.problem) == (text, "has no port between 1 and 65535")
