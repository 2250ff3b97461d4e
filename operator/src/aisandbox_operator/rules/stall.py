"""When a running trainer counts as stalled; serves the setting STALL_SECONDS."""

from __future__ import annotations

from datetime import datetime

from aisandbox_crds import parse_time, seconds_since

from aisandbox_operator.observed_state import ObservedState


def seconds_to_stall(state: ObservedState) -> float:
    """Seconds until the last sign of progress (a report, or the start of the trainer) is STALL_SECONDS old."""
    pod = state.current_pod
    signs = [parse_time(state.run.status.progress.last_updated_time), pod.started if pod is not None else None]
    last: datetime = max((sign for sign in signs if sign is not None), default=state.now)
    silent = seconds_since(last, state.now) or 0.0
    return state.settings.stall_seconds - silent
