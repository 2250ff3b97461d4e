"""Checks of how a session opens: Describe, and the first request of a stream."""

from __future__ import annotations

import grpc
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import WireError

from aisandbox_environment.compliance.checks import CheckFailed, SimulatorUnderTest
from aisandbox_environment.compliance.streams import RawSession, RawStream, reset_request
from aisandbox_environment.spec import check_reply_timeout

_OTHER_VERSION = 999_999_999
_UNKNOWN_OPTION = "check-simulator-no-such-option"


def describe_answers(simulator: SimulatorUnderTest) -> str:
    """Describe gives a name, a capacity and how much of it is in use."""
    description = simulator.describe()
    simulator.capacity, simulator.in_use = description.capacity, description.in_use
    if simulator.pool:
        simulator.attached = max(simulator.free_environments(), default=0)
    if not description.name:
        raise CheckFailed("a name in DescribeResponse.name", "an empty one", "Set a name: it is shown in lists.")
    if description.capacity and description.in_use > description.capacity:
        raise CheckFailed(
            "in_use of at most capacity",
            f"{description.in_use} of {description.capacity}",
            "Count both in environments.",
        )
    if simulator.available(1) < 1:
        raise CheckFailed(
            "room for one environment", f"{description.in_use} of {description.capacity} in use", "Try later."
        )
    limit = f"{description.capacity} environments" if description.capacity else "no limit"
    who = f"{description.name} {description.version}".strip()
    return f"{who}, {limit}, {description.in_use} in use"


def session_opens(simulator: SimulatorUnderTest) -> str:
    """`open` is answered with the spec of Describe."""
    with RawSession(simulator, simulator.available(3)) as session:
        declared = simulator.describe().spec
        if not simulator.options and session.proto != declared:
            raise CheckFailed(
                "the spec of OpenReply to be that of DescribeResponse",
                f"two different ones:\n{session.proto}and\n{declared}",
                "Declare the spaces in one place.",
            )
        try:
            check_reply_timeout(session.reply_timeout, "reply_timeout_seconds")
        except WireError as error:
            raise CheckFailed(
                "an OpenReply.reply_timeout_seconds that a trainer accepts",
                str(error),
                "Set 0 unless it may be halted.",
            ) from None
        simulator.spec = session.proto
        leaves = ", ".join(f"{leaf.kind} {list(leaf.shape)}" for leaf in session.spec.observation_leaves)
        asked = f"; asks for {session.reply_timeout:g} s for each reply" if session.reply_timeout else ""
        return f"{session.n} environments observe {leaves}, and act {session.spec.action_leaf.kind}{asked}"


def other_version_is_refused(simulator: SimulatorUnderTest) -> str:
    """Another protocol version ends the stream with FAILED_PRECONDITION."""
    advice = "Compare OpenRequest.protocol_version with 1, the version you speak, and say both in the message."
    with RawStream(simulator) as stream:
        request = simulator.open_request(1, version=_OTHER_VERSION)
        details = stream.expect_end(request, grpc.StatusCode.FAILED_PRECONDITION, advice)
    if str(_OTHER_VERSION) not in details:
        raise CheckFailed(f"a message that names version {_OTHER_VERSION} and yours", repr(details), advice)
    return details


def first_request_opens(simulator: SimulatorUnderTest) -> str:
    """A first request other than `open` ends the stream with INVALID_ARGUMENT."""
    advice = "The first request of a stream is `open`; anything else breaks the contract, and the stream ends."
    with RawStream(simulator) as stream:
        return stream.expect_end(reset_request(), grpc.StatusCode.INVALID_ARGUMENT, advice)


def no_environments_are_refused(simulator: SimulatorUnderTest) -> str:
    """A session with 0 environments ends with INVALID_ARGUMENT."""
    with RawStream(simulator) as stream:
        return stream.expect_end(
            simulator.open_request(0), grpc.StatusCode.INVALID_ARGUMENT, "OpenRequest.environments is at least 1."
        )


def unknown_options_are_refused(simulator: SimulatorUnderTest) -> str:
    """An unknown option ends the stream with INVALID_ARGUMENT, and the message names it."""
    advice = "A misspelt setting must not be ignored: refuse unknown keys of OpenRequest.options, by name."
    with RawStream(simulator) as stream:
        request = simulator.open_request(1, **{_UNKNOWN_OPTION: True})
        details = stream.expect_end(request, grpc.StatusCode.INVALID_ARGUMENT, advice)
    if _UNKNOWN_OPTION not in details:
        raise CheckFailed(f"a message that names the key {_UNKNOWN_OPTION!r}", repr(details), advice)
    return details


def second_open_is_refused(simulator: SimulatorUnderTest) -> str:
    """A second `open` is refused in band with OUT_OF_ORDER."""
    with RawSession(simulator, 1) as session:
        advice = "A session opens once: answer with SimulatorReply.error, and keep the stream."
        message = session.expect_error(simulator.open_request(1), pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER, advice)
        session.reader.reset(session.reset())
        return message


CHECKS = {
    "Describe answers": describe_answers,
    "a session opens with the spec of Describe": session_opens,
    "another protocol version is refused": other_version_is_refused,
    "the first request must be open": first_request_opens,
    "a session without environments is refused": no_environments_are_refused,
    "unknown options are refused by name": unknown_options_are_refused,
    "a second open is refused in band": second_open_is_refused,
}
NEEDED_BY_ALL = ("Describe answers", "a session opens with the spec of Describe")
"""The checks without which no other one makes sense."""
