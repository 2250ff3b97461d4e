"""RFC 3339 times: read, written, compared."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from aisandbox_crds.times import (
    format_precise_time,
    format_time,
    later_time,
    parse_time,
    seconds_since,
    utc_now,
)

NOON = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00.25Z",
        "2026-01-31T12:00:00.250000+00:00",
        "2026-01-31T13:00:00.25+01:00",
        "2026-01-31T12:00:00.25",
    ],
)
def test_time_is_read_in_every_form_that_a_writer_uses(text: str) -> None:
    assert parse_time(text) == NOON


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-01-31", "2026-13-31T12:00:00Z", None, 5, b"2026-01-31T12:00:00Z"]
)
def test_what_is_no_time_is_none(text: object) -> None:
    assert parse_time(text) is None


def test_time_is_written_to_the_second_or_to_the_microsecond_in_utc() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5)))
    assert format_time(elsewhere) == "2026-01-31T12:00:00Z"
    assert format_precise_time(elsewhere) == "2026-01-31T12:00:00.250000Z"
    assert format_precise_time(NOON.replace(microsecond=0)) == "2026-01-31T12:00:00.000000Z"


def test_present_time_is_read_back_exactly() -> None:
    now = utc_now()
    time = parse_time(now)
    assert time is not None
    assert format_precise_time(time) == now


@pytest.mark.parametrize(
    ("known", "later"),
    [
        (None, "2026-01-31T12:00:00.250000Z"),
        ("no time", "2026-01-31T12:00:00.250000Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.250000Z"),
        ("2026-01-31T12:00:00.25Z", "2026-01-31T12:00:00.250001Z"),
        ("2026-01-31T13:00:00Z", "2026-01-31T13:00:00.000001Z"),
    ],
)
def test_later_time_is_now_or_a_microsecond_after_the_known_one(known: str | None, later: str) -> None:
    assert later_time(known, NOON) == later
    assert later_time(known, format_precise_time(NOON)) == later


def test_later_time_keeps_a_now_that_is_no_time() -> None:
    assert later_time("2026-01-31T12:00:00Z", "now") == "now"


def test_seconds_are_counted_from_a_text_or_a_time_and_are_none_without_one() -> None:
    assert seconds_since("2026-01-31T11:59:00.25Z", NOON) == 60
    assert seconds_since(NOON + timedelta(seconds=5), NOON) == -5
    assert seconds_since("never", NOON) is None
    assert seconds_since(None, NOON) is None
