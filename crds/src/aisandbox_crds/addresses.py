"""Whether a text has the form of simulators' addresses: a pattern and the limits of its numbers.

Must not take an address apart for use (aisandbox_process does), resolve names or connect.
"""

from __future__ import annotations

import ipaddress
import re

from aisandbox_crds.errors import short_repr
from aisandbox_crds.spec import GRPC_SCHEMES, MAX_ADDRESS_LENGTH

MAX_ADDRESSES = 1024

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NUMERIC = rf"(?:{_LABEL}\.)*[0-9]+\.?"  # a last label of digits: an IPv4 address or nothing
_NAME = rf"(?=[^:]{{1,253}}:)(?:{_LABEL}\.)*{_LABEL}\.?"
_SCHEME = rf"(?!(?i:{'|'.join(GRPC_SCHEMES)}):[0-9])"
_ADDRESS = re.compile(
    rf"(?:dns:///)?{_SCHEME}(?:\[(?P<ipv6>[^]]*)\]|(?P<ipv4>{_NUMERIC})|{_NAME}):(?P<port>[0-9]{{1,5}})"
)
_RULE = (
    "must be host:port with a port from 1 to 65535, an IPv6 address in brackets, no scheme (unix, xds, ...) but "
    "dns:///, as '127.0.0.1:50061', 'sim-0:50061,sim-1:50061', 'dns:///sims:50061' or '[::1]:50061'"
)


def address_problem(text: str) -> str:
    """Why the text cannot be the address of simulators, as a phrase; empty if it can.

    ``host:port``, ``[IPv6]:port`` or ``dns:///host:port``, or several separated by commas.
    """
    if len(text) > MAX_ADDRESS_LENGTH:
        return f"is {len(text)} characters long; at most {MAX_ADDRESS_LENGTH}"
    parts = text.split(",")
    if len(parts) > MAX_ADDRESSES:
        return f"has {len(parts)} addresses; at most {MAX_ADDRESSES}"
    wrong = [part for part in parts if not _is_address(part)]
    return f"{_hint(wrong[0], len(parts))}{_RULE}; got {short_repr(wrong[0])}" if wrong else ""


def address_count(text: str) -> int | None:
    """How many simulators a valid address names; None if only DNS can tell."""
    return None if "dns:///" in text else text.count(",") + 1


def _hint(wrong: str, count: int) -> str:
    """What is most likely wrong, where the rule alone would not tell."""
    if re.search(r"[;|\s]", wrong.strip()):
        return "must separate several addresses with commas; each "
    return "has nothing between two commas or after the last one; each " if count > 1 and not wrong.strip() else ""


def _is_address(part: str) -> bool:
    match = _ADDRESS.fullmatch(part)
    return match is not None and 1 <= int(match["port"]) <= 65535 and _are_ip_addresses(match["ipv4"], match["ipv6"])


def _are_ip_addresses(ipv4: str | None, ipv6: str | None) -> bool:
    """Whether each text that is given is an address of its kind."""
    try:
        if ipv4 is not None:
            ipaddress.IPv4Address(ipv4)
        if ipv6 is not None:
            ipaddress.IPv6Address(ipv6)
    except ValueError:
        return False
    return True
