"""Asks a simulator what it is."""

from __future__ import annotations

import grpc
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import environment_pb2_grpc as services
from aisandbox_wire.errors import WireError

from aisandbox_environment.addresses import expand_addresses
from aisandbox_environment.channels import CLIENT_OPTIONS
from aisandbox_environment.errors import InvalidAddress, InvalidReply, ProtocolMismatch, SimulatorUnreachable
from aisandbox_environment.spec import PROTOCOL_VERSION, read_spec
from aisandbox_environment.statuses import error_of_status


def describe(address: str, timeout: float = 5.0) -> pb.DescribeResponse:
    """What the simulator at ``address`` (one ``host:port``) is, within ``timeout`` seconds; its spec is checked.

    Raises SimulatorError: SimulatorUnreachable, ProtocolMismatch (another version, or no simulator), InvalidReply.
    """
    if len(expand_addresses(address)) != 1:
        raise InvalidAddress(address, "one address can be described at a time, these are several")
    with grpc.insecure_channel(address, CLIENT_OPTIONS) as channel:
        try:
            response: pb.DescribeResponse = services.EnvironmentServiceStub(channel).Describe(
                pb.DescribeRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise SimulatorUnreachable(address, f"did not answer within {timeout:g} s") from None
            raise error_of_status(address, code, details, opened=False) from None
    if response.protocol_version != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            address, f"speaks protocol version {response.protocol_version}; this client speaks {PROTOCOL_VERSION}"
        )
    try:
        read_spec(response.spec)
    except WireError as error:
        raise InvalidReply(address, f"sent an invalid reply: describe.{error}") from None
    return response
