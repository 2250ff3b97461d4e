"""Keyed digests of checkpoints: only the run that has written a checkpoint unpickles it.

A checkpoint holds pickles, and whoever can write into its folder could put another one there, with a manifest that
fits. So its manifest has an HMAC-SHA256 (RFC 2104) of itself, and with that of the name, size and SHA-256 of every
file, under a key that only the trainers of this run are given. Must not know where the key comes from.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, replace

from aisandbox_model_store.manifest import Manifest

SIGNATURE = "hmac-sha256"
"""The detail of a manifest with its keyed digest, in lower-case hexadecimal."""
_HEX = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """The key of one run. ``accepts_unsigned``: the run has had an attempt without a key, so it may have checkpoints
    without a keyed digest.
    """

    secret: bytes
    accepts_unsigned: bool = False


def is_signed(manifest: Manifest) -> bool:
    """Whether the manifest has a keyed digest, right or wrong."""
    return SIGNATURE in manifest.details


def signed(manifest: Manifest, key: CheckpointKey) -> Manifest:
    """Return the manifest with its keyed digest: equal contents and keys give an equal one."""
    return replace(manifest, details={**manifest.details, SIGNATURE: _digest(manifest, key)})


def signature_problem(manifest: Manifest, key: CheckpointKey) -> str:
    """Return why the files of the manifest must not be unpickled by the run with this key; empty if they may be."""
    found = manifest.details.get(SIGNATURE)
    if found is None:
        if key.accepts_unsigned:
            return ""
        return "manifest.json has no keyed digest, and this run unpickles only what it has written itself"
    if not _HEX.fullmatch(found) or not hmac.compare_digest(found, _digest(manifest, key)):
        return "the keyed digest in manifest.json was not made with the key of this run, which has not written it"
    return ""


def _digest(manifest: Manifest, key: CheckpointKey) -> str:
    details = {name: value for name, value in manifest.details.items() if name != SIGNATURE}
    return hmac.new(key.secret, replace(manifest, details=details).to_bytes(), hashlib.sha256).hexdigest()
