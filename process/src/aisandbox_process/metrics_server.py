"""The HTTP server from which Prometheus reads a program's metrics at ``/metrics``.

Must not know which metrics there are. Needs the extra ``aisandbox-process[metrics]``.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server


class MetricsServer:
    """Serves the metrics of ``registry`` from a thread, from now to :meth:`close`.

    ``host`` is an IP address or name of this machine, ``port`` a TCP port, 0 for a free one. Raises OSError if they
    cannot be listened on.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._http, self._thread = start_http_server(port, host, registry)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_port)

    def close(self) -> None:
        """Stops listening and waits for the thread."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
