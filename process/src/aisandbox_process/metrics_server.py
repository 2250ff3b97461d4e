"""The HTTP server from which Prometheus reads a program's metrics at ``/metrics``, and a kubelet its probes.

Must not know which metrics there are, or what a probe asks. Needs the extra ``aisandbox-process[metrics]``.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

Probes = Mapping[str, Callable[[], bool]]
"""Functions by the paths that they answer, with 200 for True and 503 for False; each is called in its own thread."""

_ANY = ("0.0.0.0", "::", "[::]")  # noqa: S104


class MetricsServer:
    """Serves the metrics of ``registry`` from a thread, from now to :meth:`close`.

    ``host`` is an IP address or name of this machine; "0.0.0.0" and "::" mean all addresses of both families, as they
    do to gRPC. ``port`` is a TCP port, 0 for a free one. Raises OSError if they cannot be listened on.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int, probes: Probes | None = None) -> None:
        self._http = _server(host, port, _app(registry, probes or {}))
        self._thread = Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_port)

    def close(self) -> None:
        """Stops listening and waits for the thread."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _BothFamilies(_IPv6Server):
    """A socket at ``::`` takes no IPv4 where the machine says so (``net.ipv6.bindv6only``)."""

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """A read of the metrics is no event."""


def _server(host: str, port: int, app: Any) -> WSGIServer:
    if host in _ANY:
        try:
            return make_server("::", port, app, _BothFamilies, _SilentHandler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            host = _ANY[0]  # the machine has no IPv6
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    kind = _IPv6Server if family == socket.AF_INET6 else _Server
    return make_server(str(address[0]), port, app, kind, _SilentHandler)


def _app(registry: CollectorRegistry, probes: Probes) -> Any:
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        probe = probes.get(environ.get("PATH_INFO", ""))
        if probe is None:
            return metrics(environ, start_response)
        ok = probe()
        start_response("200 OK" if ok else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok" if ok else b"not serving"]

    return answer
