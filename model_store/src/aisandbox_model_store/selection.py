"""How a model of a run is selected: by a pointer (latest, best, final), by a timestep or by a digest.

Owns the form of selectors, which the wire contract defines, and the form of the pointer files. Must not know which
models a run has.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from aisandbox_model_store.artifacts import artifact_order
from aisandbox_model_store.checksummed_json import decode, encode
from aisandbox_model_store.errors import Damaged, InvalidSelector
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
    """Return what ``text`` selects; the empty text selects latest. Raises InvalidSelector."""
    if text in ("", *POINTERS):
        return ModelSelector(pointer=text or "latest")
    if match := _STEP.fullmatch(text):
        return ModelSelector(timesteps=int(match.group(1)))
    if _DIGEST.fullmatch(text):
        return ModelSelector(digest=text)
    raise InvalidSelector(text[:100], _RULE)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What latest, best or final points to: a folder below models/ and its digest.

    ``reward_mean`` is the mean return for which a best model was chosen.
    """

    folder: str
    timesteps: int
    digest: str
    reward_mean: float | None = None


_KEYS_WITHOUT_CHECKSUM = frozenset({"folder", "timesteps", "digest", "reward_mean"})


def encode_pointer(name: str, pointer: Pointer) -> bytes:
    """Return the contents of the pointer file ``name`` (latest, best or final)."""
    return encode({"name": name, **asdict(pointer)})


def decode_pointer(path: Path, data: bytes) -> Pointer:
    """Return what the pointer file ``path`` with the contents ``data`` points to. Raises Damaged."""
    try:
        document = decode(data, _KEYS_WITHOUT_CHECKSUM)
        if document.get("name", path.name) != path.name:
            raise ValueError(f"it is the pointer {document['name']!r}")
        reward = document.get("reward_mean")
        pointer = Pointer(
            folder=str(document["folder"]),
            timesteps=int(document["timesteps"]),
            digest=str(document["digest"]),
            reward_mean=None if reward is None else float(reward),
        )
        artifact_order(pointer.folder)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Damaged(path, f"it is not a pointer ({error})") from error
    return pointer
