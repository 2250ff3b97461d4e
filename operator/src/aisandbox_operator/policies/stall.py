"""When a trainer that runs makes no progress any more."""

from __future__ import annotations

from datetime import datetime

from aisandbox_crds.times import parse_time, seconds_since

from aisandbox_operator.situation import Situation


def seconds_to_stall(situation: Situation) -> float:
    """Seconds until the last sign of progress (a report, or the start of the trainer) is too long ago."""
    pod = situation.present_pod
    signs = [parse_time(situation.run.status.progress.last_updated_time), pod.started if pod is not None else None]
    last: datetime = max((sign for sign in signs if sign is not None), default=situation.now)
    silent = seconds_since(last, situation.now) or 0.0
    return situation.settings.stall_seconds - silent
