from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aisandbox_crds import InstallationSecret

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECRET = InstallationSecret.create(NOW)


def test_secret_is_itself_after_its_text_and_gives_each_run_a_key_of_its_own() -> None:
    read = InstallationSecret.from_text(SECRET.to_text())
    assert read == SECRET
    keys = {secret.key_of(run) for secret in (read, SECRET) for run in ("walk-1", "walk-2")}
    assert len(keys) == 2
    assert all(len(bytes.fromhex(key)) == 32 and key not in SECRET.to_text() for key in keys)
    assert InstallationSecret.create(NOW).key_of("walk-1") not in keys


def test_runs_from_before_the_secret_are_told_from_those_after_it() -> None:
    assert SECRET.is_older_than(NOW)
    assert SECRET.is_older_than(NOW + timedelta(days=1))
    assert not SECRET.is_older_than(NOW - timedelta(seconds=1))
    assert not SECRET.is_older_than(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"secret": 1, "since": "2026-03-01T12:00:00Z"}',
        '{"secret": "ab", "since": "2026-03-01T12:00:00Z"}',
        f'{{"secret": "{"a" * 64}", "since": "now"}}',
    ],
)
def test_text_that_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it|Expecting"):
        InstallationSecret.from_text(text)
