"""Where a simulator's address may lead: gRPC's target for it, within the networks that the administrator allows.

gRPC understands more than host:port (``unix:PATH``, ``xds:NAME``); what is dialled here is always an address of TCP.
Owns the settings SIMULATOR_NETWORKS and SIMULATOR_DIAGNOSTICS. Must not know calls.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping

from aisandbox_process import Network, join_host_port, networks, split_host_port, switch

from aisandbox_environment.errors import InvalidAddress, SimulatorUnreachable

NETWORKS = "SIMULATOR_NETWORKS"
"""The networks in which simulators may be, as 10.0.0.0/8,fd00::/8; not set: any."""

DIAGNOSTICS = "SIMULATOR_DIAGNOSTICS"
"""on (the default) or off: whether errors say what is at an address where no simulator answers."""


def simulator_networks(environ: Mapping[str, str]) -> tuple[Network, ...]:
    """The value of SIMULATOR_NETWORKS; empty: any network. Raises InvalidSetting."""
    return networks(environ, NETWORKS)


def says_what_answers() -> bool:
    """Whether errors say what is at an address that does not answer: SIMULATOR_DIAGNOSTICS is on (the default)."""
    return switch(os.environ, DIAGNOSTICS, default=True)


def target_of(address: str) -> str:
    """The target of gRPC for ``address`` (host:port), which leads nowhere but there.

    With SIMULATOR_NETWORKS the name is resolved here, once, and what is dialled are the addresses that were checked.
    Raises InvalidAddress if one of them is in no allowed network, SimulatorUnreachable if the name does not resolve.
    """
    allowed = simulator_networks(os.environ)
    if not allowed:
        return f"dns:///{address}"
    host, port = split_host_port(address)
    try:
        records = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise SimulatorUnreachable(address, f"the name {host!r} does not resolve: {error}") from None
    if not all(_is_in(record, allowed) for record in records):
        raise InvalidAddress(address, f"is not in a network that the administrator allows ({NETWORKS})")
    family = "ipv4" if any(":" not in record for record in records) else "ipv6"
    of_family = sorted(record for record in records if (":" in record) == (family == "ipv6"))
    return f"{family}:{','.join(join_host_port(record, port) for record in of_family)}"


def _is_in(record: str, allowed: tuple[Network, ...]) -> bool:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(record.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in allowed)
