"""Who counts as one peer where registrations are counted."""

from __future__ import annotations

import pytest
from aisandbox_environment.relay.rate_limit import RateLimit


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        (["10.0.0.1", "10.0.0.1", "10.0.0.2"], [True, False, True]),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"], [True, False, True]),
    ],
)
def test_addresses_of_one_network_count_as_one(hosts: list[str], allowed: list[bool]) -> None:
    rate = RateLimit(1, 1.0, lambda: 0.0)
    assert [rate.take(host) for host in hosts] == allowed
