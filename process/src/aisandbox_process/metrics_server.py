"""The HTTP server from which Prometheus reads a program's metrics at ``/metrics``.

Must not know which metrics there are. Needs the extra ``aisandbox-process[metrics]``.
"""

from __future__ import annotations

import errno
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

_ANY = ("0.0.0.0", "::", "[::]")  # noqa: S104


class MetricsServer:
    """Serves the metrics of ``registry`` from a thread, from now to :meth:`close`.

    ``host`` is an IP address or name of this machine; "0.0.0.0" and "::" mean all addresses of both families, as they
    do to gRPC. ``port`` is a TCP port, 0 for a free one. Raises OSError if they cannot be listened on.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._http, self._thread = _start(port, host, registry)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_port)

    def close(self) -> None:
        """Stops listening and waits for the thread."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _start(port: int, host: str, registry: CollectorRegistry) -> Any:
    if host in _ANY:
        try:
            return start_http_server(port, "::", registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
        host = _ANY[0]  # the machine has no IPv6
    return start_http_server(port, host, registry)
