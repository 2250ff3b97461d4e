"""Reads the replay buffer of a checkpoint, as aisandbox_trainer.checkpoints.replay_file describes the file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np


def read_replay_file(path: Path) -> dict[str, Any]:
    """``pos``, ``full`` and ``arrays`` by their names; each is as long as it is filled."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    arrays = {}
    for name, dtype, shape in header.pop("layout"):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(data[start : start + size], dtype).reshape(shape)
        start += size
    assert start == len(data)
    return {**header, "arrays": arrays}
