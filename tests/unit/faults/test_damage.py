from __future__ import annotations

import random
from pathlib import Path

import damage
import pytest


def contents(*folders: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for folder in folders for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [*damage.ALONE, "swapped inside", "swapped"])
def test_folder_differs_afterwards(tmp_path: Path, kind: str) -> None:
    for seed in range(30):
        folder, other = tmp_path / f"{seed}-a", tmp_path / f"{seed}-b"
        for number, one in enumerate((folder, other)):
            one.mkdir()
            for name in ("manifest.json", "model", "zeros"):
                (one / name).write_bytes(f"{name} {number}".encode() * 100 + bytes(1000))
        before = contents(folder)
        kinds = {**damage.ALONE, "swapped inside": damage.swap_inside, "swapped": damage.swap_with(other)}
        assert kinds[kind](folder, random.Random(seed))
        assert contents(folder) != before
