"""The seed of a run whose spec names none.

Whoever tells of the run and whoever starts its trainers must come to the same one, without writing it into a spec that
somebody else keeps (GitOps would take it out again).
"""

from __future__ import annotations

import hashlib


def seed_of(uid: str) -> int:
    """0 to 2^32 - 1: the run's own, and the same for each of its trainers."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "big")
