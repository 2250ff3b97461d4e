"""Where the service's gRPC servers listen, and where programs on this machine find them.

Must not know what is served.
"""

from __future__ import annotations

import grpc
from aisandbox_process import InvalidHostPort, join_host_port, split_host_port
from aisandbox_process.grpc_tls import add_port
from aisandbox_process.tls import ServerCertificate

from aisandbox_api.errors import AddressInUse

_DIALLED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where a client on this machine finds a server that listens on all addresses."""


def listen(server: grpc.aio.Server, address: str, variable: str, certificate: ServerCertificate | None = None) -> str:
    """Lets ``server``, which is not started, listen on host:port; returns where this machine dials it.

    Port 0 picks a free one. ``variable``: the setting of the port. ``certificate``: None for no TLS. Raises
    AddressInUse.
    """
    try:
        host, _ = split_host_port(address, lowest_port=0)
        port = add_port(server, address, certificate)
    except (InvalidHostPort, RuntimeError) as error:
        raise AddressInUse(address, variable) from error
    return join_host_port(_DIALLED.get(host, host), port)
