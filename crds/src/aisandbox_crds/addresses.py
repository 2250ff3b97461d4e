"""The syntax of a simulator's address, as far as it can be checked without a network.

Must not resolve names or connect.
"""

from __future__ import annotations

import ipaddress
import re

from aisandbox_crds.errors import short_repr
from aisandbox_crds.spec import MAX_ADDRESS_LENGTH

MAX_ADDRESSES = 1024

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_EXAMPLE = "'127.0.0.1:50061', 'sim-0:50061,sim-1:50061', 'dns:///sims:50061' or '[::1]:50061'"


def address_problem(text: str) -> str:
    """Why the text cannot be the address of simulators, as a phrase; empty if it can.

    ``host:port``, ``[IPv6]:port`` or ``dns:///host:port``, or several separated by commas.
    """
    if not text:
        return f"is required, as {_EXAMPLE}"
    if len(text) > MAX_ADDRESS_LENGTH:
        return f"is {len(text)} characters long; at most {MAX_ADDRESS_LENGTH}"
    parts = text.split(",")
    if len(parts) > MAX_ADDRESSES:
        return f"has {len(parts)} addresses; at most {MAX_ADDRESSES}"
    return next(filter(None, map(_single_problem, parts)), "")


def address_count(text: str) -> int | None:
    """How many simulators a valid address names; None if only DNS can tell."""
    return None if "dns:///" in text else text.count(",") + 1


def _single_problem(text: str) -> str:
    target = text.removeprefix("dns:///")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", target):
        return f"must be written without a scheme other than dns:///, as {_EXAMPLE}; got {short_repr(text)}"
    host, colon, port = target.rpartition(":")
    if not colon or not host:
        return f"must be host:port, as {_EXAMPLE}; got {short_repr(text)}"
    if not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
        return f"must have a port from 1 to 65535, got {short_repr(text)}"
    return _host_problem(host, text)


def _host_problem(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return f"must have an IPv6 address in the brackets, got {short_repr(text)}"
        return ""
    if ":" in host:
        return f"must have an IPv6 address in brackets, as [::1]:50061; got {short_repr(text)}"
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return f"must have four numbers from 0 to 255 in an IPv4 address, got {short_repr(text)}"
        return ""
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return f"must have a host name of letters, digits, '-' and '.', got {short_repr(text)}"
    return ""
