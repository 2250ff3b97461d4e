"""The names of runs.

A run's name is its run_id, the name of its TrainingRun resource and of its folder: a DNS-1123 label, short enough for
the Job and pods that are named after it. Must not know where names are looked up.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from random import Random

from aisandbox_crds.codec import spec_to_json
from aisandbox_crds.spec import TrainingRunSpec

MAX_NAME_LENGTH = 52
"""63 for a label, less what the Job controller ("-", 5) and an index of pods ("-", 4) append."""

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # As Kubernetes: nothing that spells a word or looks like another character.
_SUFFIX_LENGTH = 10  # 27^10: one in a million for a clash among 20,000 runs of one experiment.
_RUN_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")


def run_name(experiment_id: str, request_id: str | None, random: Random) -> str:
    """A name for a new run: the experiment, readable, and a suffix.

    With a ``request_id`` the name is a function of both ids; without one the suffix is drawn from ``random`` (pass
    ``secrets.SystemRandom()``).
    """
    suffix = request_suffix(request_id) if request_id else "".join(random.choices(_ALPHABET, k=_SUFFIX_LENGTH))
    return f"{_slug(experiment_id)}-{suffix}"


def request_suffix(request_id: str) -> str:
    """The end of the name of every run started with this request_id, whatever its experiment."""
    number = int.from_bytes(hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).digest(), "big")
    characters = []
    for _ in range(_SUFFIX_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)


def request_digest(experiment_id: str, spec: TrainingRunSpec, *, names_environment: bool = True) -> str:
    """The identity of what a request asks for, to tell a retry from another request with the same request_id.

    Compute it from the spec as requested, before a seed is chosen. A request that names no environment asks for the
    service's own, whatever that is.
    """
    asked: list[object] = [experiment_id, spec_to_json(spec), *([] if names_environment else ["default environment"])]
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def is_run_name(text: str) -> bool:
    """Whether the text can be a run's name: a DNS-1123 label of at most 52 characters."""
    return _RUN_NAME.fullmatch(text) is not None


def _slug(experiment_id: str) -> str:
    plain = unicodedata.normalize("NFKD", experiment_id).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[: MAX_NAME_LENGTH - _SUFFIX_LENGTH - 1].strip("-")
    return slug or "run"
