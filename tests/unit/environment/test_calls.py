"""The errors that statuses mean."""

from __future__ import annotations

import pytest
from aisandbox_environment.calls import error_from_status
from aisandbox_environment.errors import SimulatorLost, SimulatorUnreachable
from grpc import StatusCode


@pytest.mark.parametrize(
    ("code", "opened", "kind", "message"),
    [
        (StatusCode.OK, False, SimulatorUnreachable, "ended the stream without a reply"),
        (StatusCode.OK, True, SimulatorLost, "ended the session"),
        (StatusCode.UNAVAILABLE, False, SimulatorUnreachable, "is it running"),
        (StatusCode.UNAVAILABLE, True, SimulatorLost, "the connection broke"),
    ],
)
def test_status_that_ends_a_session_is_explained(
    code: StatusCode, opened: bool, kind: type[Exception], message: str
) -> None:
    error = error_from_status("a:1", code, "", opened=opened)
    assert type(error) is kind
    assert message in str(error)
