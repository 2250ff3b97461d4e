"""The columns of a file of demonstrations, from the spec of the environment, and its digest.

A row is a step: what was observed, which action was chosen, and what followed. After the last step of each episode
comes one more row, whose ``last`` is true: only its observation, episode and seed mean something. Must not know files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from aisandbox_wire import Array

from aisandbox_environment.spec import Spec

FORMAT = 1
HEADER, DIGEST = b"aisandbox.header", b"aisandbox.digest"
"""The keys of the file's metadata: JSON, and "sha256:..." of it and of all columns."""
OBSERVATION, ACTION, MASK = "observation", "action", "action_mask"
REWARD, TERMINATED, TRUNCATED, LAST = "reward", "terminated", "truncated", "last"
EPISODE, SEED = "episode", "seed"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``shape`` is that of the value of one row, whose elements the file has in C order."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        """The size of one row in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def field(self) -> pa.Field:
        """The column as Parquet has it: a list of fixed size, or one number; dtype and shape are its metadata."""
        element = pa.from_numpy_dtype(self.dtype)
        kind = pa.list_(element, math.prod(self.shape)) if self.shape else element
        about = {"dtype": self.dtype.name, "shape": str(list(self.shape))}
        return pa.field(self.name, kind, nullable=False, metadata=about)

    def to_arrow(self, values: Array) -> pa.Array:
        """Rows [N, *shape] as an array of :attr:`field`."""
        flat = np.ascontiguousarray(values, self.dtype).reshape(-1)
        return (
            pa.FixedSizeListArray.from_arrays(pa.array(flat), math.prod(self.shape)) if self.shape else pa.array(flat)
        )

    def from_arrow(self, values: pa.Array) -> Array:
        """The inverse of :meth:`to_arrow`. Raises ValueError for rows that are null."""
        if values.null_count or (self.shape and values.flatten().null_count):
            raise ValueError("has rows without a value")
        flat = values.flatten() if self.shape else values
        array: Array = flat.to_numpy(zero_copy_only=False).reshape(-1, *self.shape)
        return array


def columns_of(spec: Spec) -> tuple[Column, ...]:
    """The columns of the demonstrations of an environment with this spec, in their order."""
    flag = np.dtype("?")
    masks = [Column(MASK, np.dtype("u1"), (spec.mask_width,))] if spec.action_masks else []
    return (
        Column(EPISODE, np.dtype("<i8")),
        Column(SEED, np.dtype("<u8")),
        *(Column(observation_name(leaf.key), leaf.dtype, leaf.shape) for leaf in spec.observation_leaves),
        *masks,
        Column(ACTION, spec.action_leaf.dtype, spec.action_leaf.shape),
        Column(REWARD, np.dtype("<f4")),
        *(Column(name, flag) for name in (TERMINATED, TRUNCATED, LAST)),
    )


def observation_name(key: str) -> str:
    """The column of a leaf: ``observation``, or ``observation/camera`` of an entry of a Dict."""
    return f"{OBSERVATION}/{key}" if key else OBSERVATION


class Digest:
    """The SHA-256 of a file's header and of the values of its columns, however they are grouped and compressed."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self._columns = {column.name: hashlib.sha256() for column in columns}

    def add(self, rows: Mapping[str, Array]) -> None:
        """Takes the next rows of every column; their bytes are little-endian, in C order."""
        for name, values in rows.items():
            self._columns[name].update(np.ascontiguousarray(values).reshape(-1).data)

    def text(self, header: bytes) -> str:
        """``sha256:`` and the digest of: the header, then of each column its name, a null byte and its own digest."""
        whole = hashlib.sha256(header)
        for name, column in self._columns.items():
            whole.update(name.encode() + b"\0" + column.digest())
        return f"sha256:{whole.hexdigest()}"
