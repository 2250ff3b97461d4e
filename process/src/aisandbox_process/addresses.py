"""Addresses of the form host:port, split and joined.

Must not resolve names or connect.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

GRPC_SCHEMES = (
    *("dns", "fake", "google-c2p", "google-c2p-experimental", "ipv4", "ipv6", "passthrough", "sockaddr"),
    *("unix", "unix-abstract", "vsock", "xds"),
)
"""What gRPC takes for a scheme where a host is meant: ``unix:50061`` is the file 50061, not a port of a host."""

_HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/\[\]]+")
_PORT = re.compile(r"[0-9]{1,5}")


class InvalidHostPort(ValueError):
    """``text`` is not an address; ``problem`` is a phrase that says why, to be read after the text."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text!r} {problem}: use host:port")
        self.text = text
        self.problem = problem


def split_host_port(text: str, *, lowest_port: int = 1) -> tuple[str, int]:
    """The host, without the brackets of an IPv6 address, and the port, up to 65535. Raises InvalidHostPort."""
    host, colon, port = text.rpartition(":")
    if not colon or not _HOST.fullmatch(host):
        raise InvalidHostPort(text, "is not an address")
    if host.lower() in GRPC_SCHEMES:
        raise InvalidHostPort(text, f"has no host, since gRPC takes {host.lower()!r} for a scheme")
    if not _PORT.fullmatch(port) or not lowest_port <= int(port) <= 65535:
        raise InvalidHostPort(text, f"has no port between {lowest_port} and 65535")
    return host.strip("[]"), int(port)


def join_host_port(host: str, port: int) -> str:
    """``host:port``; an IPv6 address gets brackets if it has none."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an IP address with or without brackets, is this machine's and reached by no other."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def address_group(host: str) -> str:
    """What is counted as one client: an IPv4 address, or the 64 bits of an IPv6 one that a network gives to somebody.

    ``host``: as a socket or gRPC writes it, so brackets and a zone are left out; a text that is no address is returned
    as it is.
    """
    try:
        address = ipaddress.ip_address(unquote(host).strip("[]").partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped is not None:
        return str(getattr(address, "ipv4_mapped", None) or address)
    return str(address) if address.is_loopback else str(ipaddress.ip_network((address, 64), strict=False))
