"""The HTTP server from which Prometheus reads a program's metrics at ``/metrics``.

Must not know which metrics there are. Needs the extra ``aisandbox-process[metrics]``.
"""

from __future__ import annotations

import errno
import socket
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

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


class _BothFamilies(ThreadingMixIn, WSGIServer):
    """Prometheus' own server takes no IPv4 at ``::`` where the machine says so (``net.ipv6.bindv6only``)."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """A read of the metrics is no event."""


def _start(port: int, host: str, registry: CollectorRegistry) -> Any:
    if host not in _ANY:
        return start_http_server(port, host, registry)
    try:
        http = make_server("::", port, make_wsgi_app(registry), _BothFamilies, _SilentHandler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
        return start_http_server(port, _ANY[0], registry)  # the machine has no IPv6
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    return http, thread
