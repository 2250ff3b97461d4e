"""Damage to files as disks, people and power cuts cause it: truncated, a bit flipped, zeroed, swapped, missing, grown.

Owns the damaging of one published folder, such that it differs afterwards. Must not know who finds it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _some_file(folder: Path, chance: random.Random) -> Path:
    """The manifest, which is the smallest, as often as all the others together."""
    files = _files(folder)
    manifest = folder / "manifest.json"
    return manifest if manifest in files and chance.random() < 0.5 else chance.choice(files)


def truncate(folder: Path, chance: random.Random) -> str:
    path = _some_file(folder, chance)
    size = chance.choice([0, chance.randrange(path.stat().st_size), path.stat().st_size - 1])
    os.truncate(path, size)
    return f"{path.name} cut to {size} bytes"


def flip(folder: Path, chance: random.Random) -> str:
    path = _some_file(folder, chance)
    data = bytearray(path.read_bytes())
    place, bit = chance.randrange(len(data)), chance.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.name} with bit {bit} of byte {place} flipped"


def zero(folder: Path, chance: random.Random) -> str:
    path = _some_file(folder, chance)
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    end = min(place + 512, len(data))
    if not any(data[place:end]):
        place, end = 0, len(data)
    data[place:end] = bytes(end - place)
    path.write_bytes(data)
    return f"{path.name} with zeros from byte {place} to {end}"


def remove(folder: Path, chance: random.Random) -> str:
    path = _some_file(folder, chance)
    path.unlink()
    return f"{path.name} missing"


def grow(folder: Path, chance: random.Random) -> str:
    path = _some_file(folder, chance)
    data = chance.randbytes(chance.randrange(1, 100))
    with path.open("ab") as file:
        file.write(data)
    return f"{path.name} with {len(data)} bytes more"


def swap_inside(folder: Path, chance: random.Random) -> str:
    first, second = chance.sample(_files(folder), 2)
    _exchange(first, second)
    return f"{first.name} and {second.name} swapped"


def _exchange(first: Path, second: Path) -> None:
    between = first.with_name("between")
    first.rename(between)
    second.rename(first)
    between.rename(second)


def swap_with(other: Path) -> Callable[[Path, random.Random], str]:
    """A file, or all of it, exchanged with another published folder's."""

    def swap(folder: Path, chance: random.Random) -> str:
        if chance.random() < 0.3:
            _exchange(folder, other)
            return f"the folders {folder.name} and {other.name} swapped"
        names = [path.name for path in _files(folder) if (other / path.name).exists()]
        names = [name for name in names if (folder / name).read_bytes() != (other / name).read_bytes()]
        name = chance.choice(names)
        _exchange(folder / name, other / name)
        return f"{name} swapped with that of {other.name}"

    return swap


ALONE: dict[str, Callable[[Path, random.Random], str]] = {
    "truncated": truncate,
    "bit flipped": flip,
    "zeroed": zero,
    "missing": remove,
    "grown": grow,
}
