"""RFC 3339 times in UTC, as Kubernetes, records and statuses have them: parse, format, compare.

Must not know what a time is of. Nothing here raises for a text that is no time: others write these fields too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def parse_time(text: object) -> datetime | None:
    """The time a text states, in UTC if it names no zone; None if it is no time."""
    if not isinstance(text, str) or "T" not in text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """``2026-01-31T12:00:00Z``: to the second, as metav1.Time."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_precise_time(time: datetime) -> str:
    """``2026-01-31T12:00:00.000001Z``: to the microsecond, as metav1.MicroTime; such texts sort as their times."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_now() -> str:
    """The present time, to the microsecond."""
    return format_precise_time(datetime.now(UTC))


def later_time(known: str | None, now: datetime | str) -> str:
    """``now`` to the microsecond, or one microsecond after ``known`` if that is not before ``now``.

    Clocks differ between processes, and what is newer must have the later time. A ``now`` that is no time is returned
    as it is.
    """
    time = now if isinstance(now, datetime) else parse_time(now)
    if time is None:
        return str(now)
    before = parse_time(known)
    return format_precise_time(time if before is None or before < time else before + timedelta(microseconds=1))


def seconds_since(time: datetime | str | None, now: datetime) -> float | None:
    """How long ago it was; negative in the future; None when it is no time."""
    then = time if isinstance(time, datetime) else parse_time(time)
    if then is None:
        return None
    try:
        return (now - then).total_seconds()
    except OverflowError:
        return None
