"""What gRPC says of a call beside its request, as texts: who calls, and the metadata.

Needs only the standard library. Must not know what either is for.
"""

from __future__ import annotations

from collections.abc import Iterable


def host_of(peer: str) -> str:
    """The host of a peer as gRPC writes it, ``ipv4:127.0.0.1:5000``; the text itself if it has another form."""
    return peer.partition(":")[2].rpartition(":")[0] or peer


def text_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The metadata of a call, without binary entries; the first of each key."""
    found: dict[str, str] = {}
    for key, value in metadata or ():
        if isinstance(value, str):
            found.setdefault(key, value)
    return found
