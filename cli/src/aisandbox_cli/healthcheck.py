"""``aisandbox healthcheck``: one grpc.health.v1 call, for the probes of containers.

Owns a client small enough to be started every few seconds: no typer, no rich, and of the health service only the two
messages it needs. Help and wrong usage are left to :mod:`aisandbox_cli.probe`. Must not import other modules of this
package.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 2.0
SERVING = 1


def quick(arguments: Sequence[str]) -> int | None:
    """Runs the command: 0 if the server is SERVING, 1 if not; None if the arguments are not plainly right."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--address", default=os.environ.get("AISANDBOX_ADDRESS") or DEFAULT_ADDRESS)
    parser.add_argument("--service", default="")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT)
    parser.add_argument("--json", action="store_true")
    try:
        options = parser.parse_args(arguments)
    except _NotPlainError:
        return None
    return probe(options.address, options.service, options.timeout, as_json=options.json)


def probe(address: str, service: str, timeout: float, *, as_json: bool) -> int:
    """Prints the health of ``service`` at ``address``; 0 if it is SERVING, 1 if not."""
    status, error = "UNKNOWN", ""
    try:
        number = check(address, service, timeout)
        status = {0: status, SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(number, str(number))
    except grpc.RpcError as caught:
        error = f"{caught.code().name} {caught.details()}"
    if as_json:
        print(json.dumps({"address": address, "service": service, "status": status, "error": error}))
    elif error:
        print(f"{address}: {error}", file=sys.stderr)
    else:
        print(status)
    return 0 if status == "SERVING" else 1


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


class _NotPlainError(Exception):
    """The arguments are wrong, or ask for help."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _NotPlainError(message)
