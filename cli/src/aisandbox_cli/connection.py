"""The connection to the service: channel, stub and retry policy.

Owns the channel's options and which calls are retried. Must not know any command or how anything is printed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from aisandbox.v1 import policy_trainer_pb2_grpc as rpc
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.grpc_tls import open_channel
from aisandbox_process.tls import InvalidChannelSecurity

from aisandbox_cli.errors import UsageError
from aisandbox_cli.rpc_errors import from_rpc_error
from aisandbox_cli.service_address import ServiceAddress, service_address

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
    """A stub of the service that ``at`` names."""

    at: ServiceAddress
    stub: rpc.PolicyTrainerServiceStub

    def command(self, text: str) -> str:
        """The command line that a hint shows, with the options that lead to the same service."""
        return self.at.command(text)


@contextmanager
def connect(address: str | None, model_of: str = "") -> Iterator[Connection]:
    """Opens a connection to the service; a gRPC error inside the context is raised as :class:`CliError`.

    ``model_of``: the run whose model the calls need; if it has none, the hint is to look at the run's status.

    Raises:
        UsageError: the address is none, or a file of TLS or of the token cannot be used.
        CliError: a call inside the context ended with another status than OK.
    """
    with connect_to(service_address(address), model_of) as service:
        yield service


@contextmanager
def connect_to(at: ServiceAddress, model_of: str = "") -> Iterator[Connection]:
    """As :func:`connect`."""
    try:
        with open_channel(at.target, at.security, _OPTIONS) as channel:
            service = Connection(at, rpc.PolicyTrainerServiceStub(channel))
            yield service
    except InvalidChannelSecurity as error:
        raise UsageError(str(error)) from error
    except grpc.RpcError as error:
        failure = from_rpc_error(error, at)
        if model_of and error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            failure.hint = f"`{at.command(f'status {model_of}')}` shows whether the run still trains."
        raise failure from error
