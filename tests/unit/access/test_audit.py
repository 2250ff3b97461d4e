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


def test_addresses_of_one_network_are_one_peer() -> None:
    audit = Audit(lambda: 0.0)
    with capture_logs() as logs:
        for number in range(600):
            audit.record("bob", f"ipv6:[2001:db8::{number:x}]:5", "/a.B/CancelTraining", "walk", "PERMISSION_DENIED")
    assert sum(line["event"] == "audit" for line in logs) == REFUSALS_AT_ONCE
