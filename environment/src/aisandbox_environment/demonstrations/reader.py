"""Reads a file of demonstrations: what it says of itself first, then its rows, within a bound of memory.

Everything is checked: the digest, the form, and that each action was possible. Must not know who learns from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import Array, Leaf, MaskLayout, WireError
from google.protobuf.json_format import ParseDict, ParseError

from aisandbox_environment.demonstrations.columns import (
    ACTION,
    DIGEST,
    EPISODE,
    FORMAT,
    HEADER,
    LAST,
    MASK,
    REWARD,
    TERMINATED,
    TRUNCATED,
    Column,
    Digest,
    columns_of,
    observation_name,
)
from aisandbox_environment.errors import InvalidDemonstrationFile
from aisandbox_environment.spec import Spec, read_spec

_LARGEST_TEXT = 64 * 1024 * 1024
"""Bytes of a text in the file's metadata."""
_ELEMENTS_AT_ONCE = 1024 * 1024
"""Of the rows that are decoded at a time, however the file groups them."""
_BUFFER = 1024 * 1024
_DECODED_ELEMENT = 12
"""Bytes that pyarrow takes for one element while it decodes it, besides the element itself, twice: its levels in the
list, the type that Parquet has for it, and what its buffers are larger than needed."""
_COMPARED_ROW = 64
"""Bytes for one row while whole episodes are looked for."""
_DAMAGED = "is damaged, or no Parquet file"


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """All rows of a file: those of the steps, and one more after each episode, where ``last`` is true.

    ``observations``: one array [rows, *shape] for each leaf. ``actions``: [rows, *shape]. ``rewards``: float32 [rows].
    ``terminated``, ``truncated``, ``last``: bool [rows]. ``action_masks``: bool [rows, mask_width], None without masks.
    """

    observations: tuple[Array, ...]
    actions: Array
    rewards: Array
    terminated: Array
    truncated: Array
    last: Array
    action_masks: Array | None = None


class DemonstrationFile:
    """An open file. Raises InvalidDemonstrationFile for what is none, or damaged."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._parquet = pq.ParquetFile(
                file,
                thrift_string_size_limit=_LARGEST_TEXT,
                page_checksum_verification=True,
                pre_buffer=False,
                buffer_size=_BUFFER,  # else a column of a group of rows is loaded whole
            )
            metadata: Mapping[bytes, bytes] = self._parquet.metadata.metadata or {}
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InvalidDemonstrationFile(f"{_DAMAGED} ({_line(error)})") from None
        if HEADER not in metadata or DIGEST not in metadata:
            raise InvalidDemonstrationFile(
                "is a Parquet file, and has no demonstrations: `aisandbox record` writes them"
            )
        self._header, self._digest = metadata[HEADER], metadata[DIGEST].decode("ascii", "replace")
        self.spec, self.episodes, self.steps = _read_header(self._header)
        self._columns = columns_of(self.spec)
        self._check_form()

    @property
    def rows(self) -> int:
        """How many rows it has: the steps, and one for each episode."""
        return self.steps + self.episodes

    @property
    def bytes_needed(self) -> int:
        """What :meth:`read` allocates at most: all rows, and what it takes to decode and compare some of them."""
        row = sum(column.row_bytes for column in self._columns)
        decoded = 2 * row + _DECODED_ELEMENT * self._row_elements
        buffers = 3 * _BUFFER * len(self._columns)  # of the file, and a page before and after it is decompressed
        return (row + _COMPARED_ROW) * self.rows + decoded * min(self._rows_at_once, self.rows) + buffers

    def read(self, spec: Spec | None = None, check: Callable[[], None] = lambda: None) -> Demonstrations:
        """All rows, verified. Raises InvalidDemonstrationFile, naming the row; MemoryError, OSError.

        ``spec``: of the environment that they are for, whose bounds of actions count; it has the same leaves.
        ``check`` is called from time to time, and may raise.
        """
        values = self._read_rows(check)
        masks = values[MASK] if self.spec.action_masks else None
        read = Demonstrations(
            tuple(values[observation_name(leaf.key)] for leaf in self.spec.observation_leaves),
            values[ACTION],
            values[REWARD],
            values[TERMINATED],
            values[TRUNCATED],
            values[LAST],
            masks,
        )
        _check_episodes(read, values[EPISODE], self.episodes)
        for first in range(0, self.rows, self._rows_at_once):
            check()
            _check_values(read, spec or self.spec, slice(first, first + self._rows_at_once))
        return read

    @property
    def _row_elements(self) -> int:
        return sum(math.prod(column.shape) for column in self._columns)

    @property
    def _rows_at_once(self) -> int:
        return max(1, _ELEMENTS_AT_ONCE // self._row_elements)

    def _check_form(self) -> None:
        schema, metadata = self._parquet.schema_arrow, self._parquet.metadata
        expected = pa.schema([column.field for column in self._columns])
        if not schema.equals(expected, check_metadata=False):
            raise InvalidDemonstrationFile("is damaged: its columns are not those of the spaces that it names")
        if metadata.num_rows != self.rows:
            raise InvalidDemonstrationFile(
                f"is damaged: it has {metadata.num_rows:,} rows, and its header says {self.steps:,} steps of "
                f"{self.episodes:,} episodes"
            )

    def _read_rows(self, check: Callable[[], None]) -> dict[str, Array]:
        """All rows of every column, those of masks as bools; their digest is that of the file."""
        values = {column.name: np.empty((self.rows, *column.shape), _kept_dtype(column)) for column in self._columns}
        digest, first = Digest(self._columns), 0
        for batch in self._batches():
            check()
            digest.add(batch)
            count = len(batch[LAST])
            for name, rows in batch.items():
                values[name][first : first + count] = rows
            first += count
        if first != self.rows:
            raise InvalidDemonstrationFile(f"is damaged: it has {first:,} rows of {self.rows:,}")
        if digest.text(self._header) != self._digest:
            raise InvalidDemonstrationFile("is damaged: its rows are not those that its digest is of")
        return values

    def _batches(self) -> Iterator[dict[str, Array]]:
        """The next rows of every column, never more than the file is said to have."""
        left = self.rows
        try:
            for batch in self._parquet.iter_batches(self._rows_at_once, use_threads=False):
                left -= batch.num_rows
                if left < 0:
                    raise ValueError("it has more rows than its metadata says")
                yield {column.name: column.from_arrow(batch.column(column.name)) for column in self._columns}
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise InvalidDemonstrationFile(f"{_DAMAGED} ({_line(error)})") from None


def _kept_dtype(column: Column) -> np.dtype[Any]:
    return np.dtype("?") if column.name == MASK else column.dtype


def _read_header(data: bytes) -> tuple[Spec, int, int]:
    """The spec, the number of episodes and that of the steps. Raises InvalidDemonstrationFile."""
    try:
        header: dict[str, Any] = json.loads(data)
        version, episodes, steps = (header[name] for name in ("format", "episodes", "steps"))
        if version != FORMAT:
            raise InvalidDemonstrationFile(f"has the format {version!r}; this version reads {FORMAT}")
        spec = read_spec(ParseDict(header["spec"], pb.EnvironmentSpec(), ignore_unknown_fields=True))
    except (ValueError, TypeError, KeyError, RecursionError, ParseError, WireError) as error:
        raise InvalidDemonstrationFile(f"is damaged: its header is malformed ({_line(error)})") from None
    if not (type(episodes) is int and type(steps) is int and 0 <= episodes <= steps):
        raise InvalidDemonstrationFile(f"is damaged: its header says {steps!r} steps of {episodes!r} episodes")
    if episodes == 0:
        raise InvalidDemonstrationFile("has no episodes")
    return spec, episodes, steps


def _check_episodes(read: Demonstrations, episodes: Array, count: int) -> None:
    """Each episode has steps, of which the last one ends it, and then the row of its last observation."""
    ends = np.flatnonzero(read.last)
    numbers = np.cumsum(read.last) - read.last
    ended = (read.terminated | read.truncated) & ~read.last
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    whole = (
        len(ends) == count
        and bool(read.last[-1])
        and bool((ends > starts).all())
        and bool((episodes == numbers).all())
        and np.array_equal(np.flatnonzero(ended), ends - 1)
    )
    if not whole:
        raise InvalidDemonstrationFile("has rows that are not whole episodes")


def _check_values(read: Demonstrations, spec: Spec, rows: slice) -> None:
    """Finite observations and rewards, actions of their space that were allowed, in some of the rows."""
    steps, actions, first = ~read.last[rows], read.actions[rows], rows.start
    for leaf, values in zip(spec.observation_leaves, read.observations, strict=True):
        if leaf.dtype.kind == "f":
            _refuse(~np.isfinite(values[rows]), read, first, f"{observation_name(leaf.key)} is not finite")
    _refuse(~np.isfinite(read.rewards[rows]), read, first, "reward is not finite")
    _refuse(outside(spec.action_leaf, actions) & steps, read, first, "action is outside of its space", read.actions)
    if read.action_masks is not None:
        allowed = allows(spec.mask_layout, spec.action_leaf, read.action_masks[rows], actions)
        _refuse(~allowed & steps, read, first, "action is forbidden by the mask", read.actions)


def outside(leaf: Leaf, actions: Array) -> Array:
    """Bool [N]: which of the actions [N, *shape] are not in their space."""
    low: Array
    high: Array
    if leaf.nvec is not None:
        low, high = np.zeros_like(leaf.nvec), np.asarray(leaf.nvec - 1)
    elif leaf.low is not None and leaf.high is not None:
        low, high = leaf.low, leaf.high
    else:
        low = np.array(leaf.start)
        high = np.array(leaf.start + leaf.n - 1 if leaf.kind == "discrete" else 1)
    return _any_of_row(~((actions >= low) & (actions <= high)))


def allows(layout: MaskLayout, leaf: Leaf, masks: Array, actions: Array) -> Array:
    """Bool [N]: which of the actions [N, *shape], in their space, the masks [N, width] allow."""
    starts = np.concatenate(([0], np.cumsum(layout.counts[:-1]))).astype(np.int64)
    chosen = (actions.reshape(len(actions), -1) - leaf.start).astype(np.int64)
    places = np.clip(starts + chosen, 0, layout.width - 1)
    return np.asarray(np.take_along_axis(masks, places, axis=1).all(axis=1))


def _any_of_row(wrong: Any) -> Array:
    return np.asarray(wrong.reshape(len(wrong), -1).any(axis=1))


def _refuse(wrong: Any, read: Demonstrations, first: int, rule: str, values: Array | None = None) -> None:
    """Raises InvalidDemonstrationFile for the first row that is wrong; ``wrong`` begins with the row ``first``."""
    rows = _any_of_row(wrong)
    if not rows.any():
        return
    row = first + int(np.argmax(rows))
    ends = np.flatnonzero(read.last[:row])
    step = row - (int(ends[-1]) + 1 if len(ends) else 0)
    shown = "" if values is None else f": {np.array2string(values[row], threshold=8)}"
    raise InvalidDemonstrationFile(f"row {row:,} (episode {len(ends)}, step {step}): {rule}{shown}")


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
