"""RFC 3339 times in UTC, as Kubernetes writes them; never raises for a text that is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def parse_time(text: object) -> datetime | None:
    """The time a text says, or None."""
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


def moment_after(known: str | None, now: datetime) -> str:
    """``now`` to the microsecond, or one microsecond after ``known``: clocks differ, and what is newer must say so."""
    before = parse_time(known)
    time = now if before is None or before < now else before + timedelta(microseconds=1)
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_since(text_or_time: object, now: datetime) -> float | None:
    """How long ago it was; negative in the future; None when it is no time."""
    time = text_or_time if isinstance(text_or_time, datetime) else parse_time(text_or_time)
    if time is None:
        return None
    try:
        return (now - time).total_seconds()
    except OverflowError:
        return None
