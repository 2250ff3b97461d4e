"""Small JSON documents that tell when they are not as they were written.

Owns the key ``checksum``, the SHA-256 of the rest of the document, and the one form in which it is written. A flipped
bit would else be another number, and as good as the right one. Must not know what the documents say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from typing import Any

_CHECKSUM = "checksum"


def seal(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document with its checksum; equal documents give equal bytes."""
    return _dump({**document, _CHECKSUM: hashlib.sha256(_dump(document)).hexdigest()})


def unseal(data: bytes, unsealed: Set[str]) -> dict[str, Any]:
    """Return the document that was sealed; one with just the keys ``unsealed`` may be from before there were seals.

    Raises ValueError, or another error that JSON of another form leads to (TypeError, AttributeError, RecursionError).
    """
    document: dict[str, Any] = json.loads(data)
    if document.pop(_CHECKSUM, None) is None:
        if set(document) != unsealed:
            raise ValueError("it has no checksum")
    elif data != seal(document):
        raise ValueError("it is not as it was written")
    return document


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"
