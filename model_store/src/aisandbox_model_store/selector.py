"""Which model of a run is meant: the selectors of the wire contract.

Owns their spelling. Must not know which models there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aisandbox_model_store.errors import InvalidSelector
from aisandbox_model_store.layout import POINTERS

_RULE = "must be empty, latest, best, final, step:N or sha256: and 64 hexadecimal digits"
_STEP = re.compile(r"step:([0-9]{1,18})")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelSelector:
    """Exactly one is set: the name of a pointer, a timestep, or a digest."""

    pointer: str = ""
    timesteps: int | None = None
    digest: str = ""


def parse_selector(text: str) -> ModelSelector:
    """Return what ``text`` selects; the empty text is latest. Raises InvalidSelector."""
    if text in ("", *POINTERS):
        return ModelSelector(pointer=text or "latest")
    if match := _STEP.fullmatch(text):
        return ModelSelector(timesteps=int(match.group(1)))
    if _DIGEST.fullmatch(text):
        return ModelSelector(digest=text)
    raise InvalidSelector(text[:100], _RULE)
