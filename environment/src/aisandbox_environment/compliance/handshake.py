"""Checks of Describe and of how a session opens."""

from __future__ import annotations

import grpc

from aisandbox_environment.compliance.examination import Examination, Failed, reset_request

_OTHER_VERSION = 999_999_999
_UNKNOWN_OPTION = "check-simulator-no-such-option"


def describe_answers(examination: Examination) -> str:
    """Describe."""
    description = examination.describe()
    examination.capacity, examination.in_use = description.capacity, description.in_use
    if not description.name:
        raise Failed("a name in DescribeResponse.name", "an empty one", "People read it in lists: give it one.")
    if description.capacity and description.in_use > description.capacity:
        raise Failed(
            "in_use of at most capacity",
            f"{description.in_use} of {description.capacity}",
            "Count both in environments.",
        )
    if examination.room(1) < 1:
        raise Failed("room for one environment", f"{description.in_use} of {description.capacity} in use", "Try later.")
    limit = f"{description.capacity} environments" if description.capacity else "no limit"
    who = f"{description.name} {description.version}".strip()
    return f"{who}, {limit}, {description.in_use} in use"


def session_opens(examination: Examination) -> str:
    """Open."""
    with examination.session(examination.room(3)) as session:
        declared = examination.describe().spec
        if not examination.options and session.proto != declared:
            raise Failed(
                "the spec of OpenReply to be that of DescribeResponse",
                f"two different ones:\n{session.proto}and\n{declared}",
                "Declare the spaces in one place.",
            )
        leaves = ", ".join(f"{leaf.kind} {list(leaf.shape)}" for leaf in session.spec.observation_leaves)
        return f"{session.n} environments observe {leaves}, and act {session.spec.action_leaf.kind}"


def other_version_is_refused(examination: Examination) -> str:
    """Another protocol version."""
    advice = "Compare OpenRequest.protocol_version with 1, the version you speak, and say both in the message."
    with examination.stream() as stream:
        request = examination.opening(1, version=_OTHER_VERSION)
        details = stream.expect_end(request, grpc.StatusCode.FAILED_PRECONDITION, advice)
    if str(_OTHER_VERSION) not in details:
        raise Failed(f"a message that names version {_OTHER_VERSION} and yours", repr(details), advice)
    return details


def first_request_opens(examination: Examination) -> str:
    """Something else first."""
    advice = "The first request of a stream is `open`; anything else breaks the contract, and the stream ends."
    with examination.stream() as stream:
        return stream.expect_end(reset_request(), grpc.StatusCode.INVALID_ARGUMENT, advice)


def no_environments_are_refused(examination: Examination) -> str:
    """Zero environments."""
    with examination.stream() as stream:
        return stream.expect_end(
            examination.opening(0), grpc.StatusCode.INVALID_ARGUMENT, "OpenRequest.environments is at least 1."
        )


def unknown_options_are_refused(examination: Examination) -> str:
    """A misspelt option."""
    advice = "A misspelt setting must not pass in silence: refuse keys of OpenRequest.options you do not know, by name."
    with examination.stream() as stream:
        request = examination.opening(1, **{_UNKNOWN_OPTION: True})
        details = stream.expect_end(request, grpc.StatusCode.INVALID_ARGUMENT, advice)
    if _UNKNOWN_OPTION not in details:
        raise Failed(f"a message that names the key {_UNKNOWN_OPTION!r}", repr(details), advice)
    return details


CHECKS = {
    "Describe answers": describe_answers,
    "a session opens with the spec that Describe tells": session_opens,
    "another protocol version is refused": other_version_is_refused,
    "the first request opens": first_request_opens,
    "a session without environments is refused": no_environments_are_refused,
    "unknown options are refused by name": unknown_options_are_refused,
}
