"""Which lines the record of calls has."""

from __future__ import annotations

import pytest
from aisandbox_access import Audit
from structlog.testing import capture_logs

REFUSALS_AT_ONCE = 500


@pytest.mark.parametrize(("result", "lines"), [("OK", 600), ("PERMISSION_DENIED", REFUSALS_AT_ONCE)])
def test_peer_that_is_refused_again_and_again_does_not_fill_the_record(result: str, lines: int) -> None:
    audit = Audit(lambda: 0.0)
    with capture_logs() as logs:
        for _ in range(600):
            audit.record("bob", "ipv4:10.0.0.1:5", "/a.B/CancelTraining", "walk", result)
    assert [line["result"] for line in logs if line["event"] == "audit"] == [result] * lines
