"""The connection to the service: channel, stub and retry policy.

Owns the channel's options and which calls are retried. Must not know any command or how anything is printed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_process import InvalidHostPort, split_host_port
from aisandbox_process.grpc_options import channel_options

from aisandbox_cli import program
from aisandbox_cli.errors import UsageError, from_rpc_error

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "AISANDBOX_ADDRESS"
# Seconds a unary call may take, with all its retries.
CALL_TIMEOUT = 15.0

# The idempotent calls: a start carries a request_id, the others read or set a desired state.
IDEMPOTENT = (
    "StartTraining",
    "StartTrainingPPO",
    "StartTrainingA2C",
    "StartTrainingDQN",
    "GetTrainingStatus",
    "ListTrainingRuns",
    "CancelTraining",
    "SuspendTraining",
    "ResumeTraining",
    "Act",
    "GetModel",
    "DescribeModel",
)
RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE = "aisandbox.v1.PolicyTrainerService"
SERVICE_CONFIG = json.dumps(
    {"methodConfig": [{"name": [{"service": SERVICE, "method": m} for m in IDEMPOTENT], "retryPolicy": RETRY_POLICY}]}
)

_OPTIONS = [
    *channel_options(ping_seconds=20, ping_timeout_seconds=10, reconnect_seconds=2),
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """A stub of the service at ``address``. ``given``: --address was used, so hints must repeat it."""

    address: str
    given: bool
    stub: rpc.PolicyTrainerServiceStub

    def command(self, text: str) -> str:
        """The command line that a hint shows, with --address if it is needed."""
        return program.command(text) + (f" --address {self.address}" if self.given else "")


@contextmanager
def connect(address: str | None, model_of: str = "") -> Iterator[Connection]:
    """Opens a connection to the service; a gRPC error inside the context is raised as :class:`CliError`.

    ``model_of``: the run whose model the calls need; if it has none, the hint is to look at the run's status.

    Raises:
        UsageError: the address is not ``host:port``.
        CliError: a call inside the context ended with another status than OK.
    """
    target = checked_address(address or environment_address() or DEFAULT_ADDRESS)
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        given = bool(address) and address not in (environment_address(), DEFAULT_ADDRESS)
        service = Connection(target, given, rpc.PolicyTrainerServiceStub(channel))
        try:
            yield service
        except grpc.RpcError as error:
            failure = from_rpc_error(error, target)
            if model_of and error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                failure.hint = f"`{service.command(f'status {model_of}')}` shows whether the run still trains."
            raise failure from error


def environment_address() -> str:
    """The service's address from the environment variable AISANDBOX_ADDRESS, or an empty string."""
    return os.environ.get(ADDRESS_VARIABLE, "")


def checked_address(text: str) -> str:
    """The address, HOST:PORT with or without ``dns:///``; blanks around it are no part of it. Raises UsageError."""
    address = text.strip()
    try:
        split_host_port(address.removeprefix("dns:///"))
    except InvalidHostPort:
        raise UsageError(f"address {address!r}: must be HOST:PORT, like {DEFAULT_ADDRESS}") from None
    return address
