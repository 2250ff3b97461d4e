"""The file of lessons that ``aisandbox train --lessons`` reads: YAML or JSON, as in a TrainingRun.

Checks its form only; what the values mean is checked by the service.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from google.protobuf.json_format import ParseDict, ParseError

from aisandbox_cli.errors import UsageError

LARGEST_FILE = 256 * 1024
"""Bytes; a start call takes no more."""


def read_lessons(path: Path) -> list[pb.Lesson]:
    """The lessons of a file: a list of them, or an object whose only key is ``lessons``. Raises UsageError."""
    import yaml  # only here: most commands need none

    option = f"--lessons {path}"
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise UsageError(f"{option}: has more than {LARGEST_FILE:,} bytes")
        data: Any = yaml.safe_load(text)  # of JSON too, which is YAML
    except OSError as error:
        raise UsageError(f"{option}: cannot be read: {error}") from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise UsageError(f"{option}: is neither YAML nor JSON: {error}") from error
    if isinstance(data, dict) and list(data) == ["lessons"]:
        data = data["lessons"]
    if not isinstance(data, list) or not data:
        raise UsageError(f"{option}: must be a list of lessons, each with name, parameters and until")
    try:
        return list(ParseDict({"lessons": data}, pb.TrainingRequest()).lessons)
    except (ParseError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{option}: {error}") from error
