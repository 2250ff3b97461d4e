"""``aisandbox healthcheck``: one grpc.health.v1 call, for the probes of containers.

Owns a client small enough to be started every few seconds: no typer, no rich, and of the health service only the two
messages it needs. Must not import other modules of this package at the top.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
SERVING = 1


def healthcheck() -> None:
    """Ask a server for its health; exit code 0 if it serves, 1 if not.

    For the probes of containers: quick, one line, no retries. `aisandbox healthcheck --help` shows its options.
    """
    raise SystemExit(main(sys.argv[2:]))


def main(arguments: Sequence[str]) -> int:
    """Prints the health of a service; 0 if it is SERVING."""
    options = _parser().parse_args(arguments)
    try:
        status = check(options.address, options.service, options.timeout)
    except grpc.RpcError as error:
        print(f"{options.address}: {error.code().name} {error.details()}", file=sys.stderr)
        return 1
    name = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
    print(name)
    return 0 if status == SERVING else 1


def check(address: str, service: str, timeout: float) -> int:
    """The grpc.health.v1.HealthCheckResponse.ServingStatus of ``service`` ("" is the whole server) at ``address``.

    Raises:
        grpc.RpcError: nobody answers within ``timeout`` seconds, or the service is not known.
    """
    from grpc_health.v1 import health_pb2

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return int(ask(health_pb2.HealthCheckRequest(service=service), timeout=timeout).status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aisandbox healthcheck",
        description="Ask a server for its health (grpc.health.v1); exit code 0 if it serves, 1 if not.",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("AISANDBOX_ADDRESS") or DEFAULT_ADDRESS,
        help="where the server listens (AISANDBOX_ADDRESS, default %(default)s)",
    )
    parser.add_argument(
        "--service",
        metavar="NAME",
        default="",
        help="a service, aisandbox.v1.PolicyTrainerService; without it the whole server is meant",
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=2.0, help="default %(default)s")
    return parser
