"""The lexical rules of ``model_output_path``, the same on every operating system.

Must not touch a disk: that the path stays inside MODELS_DIR when links are followed is checked by the model store.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from aisandbox_crds.spec import MAX_PATH_LENGTH

_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def output_path_problem(text: str) -> str:
    """Why the text cannot be a path below MODELS_DIR, as a phrase; empty if it can, or is empty."""
    if not text:
        return ""
    if len(text) > MAX_PATH_LENGTH or any(len(part.encode("utf-8", "replace")) > 250 for part in text.split("/")):
        return f"must have at most {MAX_PATH_LENGTH} characters, and 250 bytes between slashes"
    if not text.isprintable():
        return "must have no control characters"
    if "\\" in text or ":" in text:
        return "must be relative to MODELS_DIR, with / between folders and no backslash or colon"
    if text.startswith("/"):
        return "must be relative to MODELS_DIR, not absolute"
    parts = text.split("/")
    if ".." in parts:
        return "must not contain '..'"
    if parts[-1] in ("", "."):
        return "must end in a file name"
    folders = [part for part in parts if part not in ("", ".")]
    if any(part[-1] in ". " or _DEVICES.fullmatch(part) for part in folders):
        return "must have no name that ends in a dot or space or is a device on Windows"
    if folders[0].lower() == "runs":
        return "must not be in the folder 'runs', which holds the service's own files"
    return ""


def normalized_output_path(text: str) -> PurePosixPath | None:
    """The path of the file relative to MODELS_DIR: as SB3's ``save``, ``.zip`` is added to a name without a suffix.

    None for an empty text. Expects a text without :func:`output_path_problem`.
    """
    if not text:
        return None
    path = PurePosixPath(text)
    return path if path.suffix else path.with_name(f"{path.name}.zip")
