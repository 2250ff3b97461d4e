"""Small JSON documents with a checksum of themselves, so that a flipped bit in them is found.

Owns the key ``checksum``, the SHA-256 of the rest of the document, and the one form in which a document is written.
Must not know what the documents mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from typing import Any

_CHECKSUM = "checksum"


def encode(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document with its checksum; equal documents give equal bytes."""
    return _dump({**document, _CHECKSUM: hashlib.sha256(_dump(document)).hexdigest()})


def decode(data: bytes, keys_without_checksum: Set[str]) -> dict[str, Any]:
    """Return the document without its checksum.

    A document without a checksum is accepted if it has exactly the keys ``keys_without_checksum``: the first versions
    wrote none. Raises ValueError, or for JSON of another form TypeError, AttributeError or RecursionError.
    """
    document: dict[str, Any] = json.loads(data)
    if document.pop(_CHECKSUM, None) is None:
        if set(document) != keys_without_checksum:
            raise ValueError("it has no checksum")
    elif data != encode(document):
        raise ValueError("its checksum is wrong")
    return document


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"
