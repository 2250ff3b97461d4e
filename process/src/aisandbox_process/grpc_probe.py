"""Asks a gRPC server of this machine for its health, for probes that speak HTTP.

Needs the extra ``aisandbox-process[grpc]``. Must not know what is served.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aisandbox_process.grpc_options import channel_options

TIMEOUT_SECONDS = 2.0


def health_probe(address: str, service: str = "") -> Callable[[], bool]:
    """A function that asks the server at ``address`` (host:port, without TLS) whether ``service`` is SERVING."""
    request = health_pb2.HealthCheckRequest(service=service)

    def serving() -> bool:
        with grpc.insecure_channel(address, options=channel_options(ping_seconds=60)) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return serving
