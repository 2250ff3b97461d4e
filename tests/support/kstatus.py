"""What kstatus, the library of Flux and kpt, makes of a resource that it does not know.

The rules of ``Compute`` in sigs.k8s.io/cli-utils, pkg/kstatus/status (v0.37), for kinds without rules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def kstatus(resource: Mapping[str, Any]) -> str:
    """Terminating, InProgress, Failed or Current."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != metadata["generation"]:
        return "InProgress"
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    for kind, state in conditions.items():
        if (kind, state) == ("Reconciling", "True"):
            return "InProgress"
        if (kind, state) == ("Stalled", "True"):
            return "Failed"
    if conditions.get("Ready", "True") != "True":
        return "InProgress"
    return "Current"
