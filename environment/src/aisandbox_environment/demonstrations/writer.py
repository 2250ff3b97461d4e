"""Writes a file of demonstrations, episode by episode, in bounded memory.

The file appears under its name when it is complete. Must not know who plays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aisandbox_wire import Array
from google.protobuf.json_format import MessageToDict

from aisandbox_environment.demonstrations.columns import (
    ACTION,
    DIGEST,
    EPISODE,
    FORMAT,
    HEADER,
    LAST,
    MASK,
    REWARD,
    SEED,
    TERMINATED,
    TRUNCATED,
    Column,
    Digest,
    columns_of,
    observation_name,
)
from aisandbox_environment.demonstrations.episode import Episode
from aisandbox_environment.spec import Spec

GROUP_BYTES = 16 * 1024 * 1024
"""Episodes are written together once they have so many bytes."""
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A complete file. ``digest``: of its bytes, as a run records it."""

    path: Path
    episodes: int
    steps: int
    return_mean: float
    digest: str


class DemonstrationWriter:
    """Writes to ``path``; ``about`` says where the episodes are from: texts of the header, as ``policy``.

    Raises OSError.
    """

    def __init__(self, path: Path, spec: Spec, about: Mapping[str, str]) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._spec = spec
        self._about = dict(about)
        self._columns = columns_of(spec)
        self._schema = pa.schema([column.field for column in self._columns])
        self._digest = Digest(self._columns)
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd", write_page_checksum=True)
        self._waiting: list[dict[str, Array]] = []
        self._waiting_bytes = 0
        self._returns: list[float] = []
        self._steps = 0

    @property
    def episodes(self) -> int:
        """How many were added."""
        return len(self._returns)

    def add(self, episode: Episode) -> None:
        """Adds a whole episode. Raises OSError; then, or if it is interrupted, there is no file, nor an episode."""
        rows = self._rows(episode)
        try:
            self._add(episode, rows)
        except BaseException:
            self._returns.clear()
            self.discard()
            raise

    def _add(self, episode: Episode, rows: dict[str, Array]) -> None:
        self._waiting.append(rows)
        self._waiting_bytes += sum(values.nbytes for values in rows.values())
        self._returns.append(float(np.sum(episode.rewards, dtype=np.float64)))
        self._steps += episode.steps
        if self._waiting_bytes >= GROUP_BYTES:
            self._write()

    def close(self) -> WrittenFile:
        """Completes the file. Raises OSError; ValueError without an episode, which leaves no file."""
        if not self._returns:
            self.discard()
            raise ValueError("no episode was recorded")
        try:
            self._write()
            header = json.dumps(self._header(), sort_keys=True).encode()
            self._writer.add_key_value_metadata({HEADER: header, DIGEST: self._digest.text(header).encode()})
            self._writer.close()
            _flush(self._temporary)
            digest = _digest_of(self._temporary)
            os.replace(self._temporary, self.path)
        except BaseException:
            self.discard()
            raise
        return WrittenFile(self.path, self.episodes, self._steps, float(np.mean(self._returns)), digest)

    def discard(self) -> None:
        """Leaves no file."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def _header(self) -> dict[str, object]:
        return {
            **self._about,
            "format": FORMAT,
            "episodes": self.episodes,
            "steps": self._steps,
            "spec": MessageToDict(self._spec.to_proto(), preserving_proto_field_name=True),
        }

    def _rows(self, episode: Episode) -> dict[str, Array]:
        """The rows of an episode, T + 1 of each column."""
        rows: dict[str, Array] = {}
        for column in self._columns:
            rows[column.name] = np.zeros((episode.steps + 1, *column.shape), column.dtype)
        for leaf, values in zip(self._spec.observation_leaves, episode.observations, strict=True):
            rows[observation_name(leaf.key)][:] = values
        rows[EPISODE][:], rows[SEED][:] = self.episodes, episode.seed
        rows[ACTION][:-1], rows[REWARD][:-1] = episode.actions, episode.rewards
        rows[TERMINATED][-2], rows[TRUNCATED][-2], rows[LAST][-1] = episode.terminated, episode.truncated, True
        if episode.action_masks is not None:
            rows[MASK][:-1] = episode.action_masks
        return rows

    def _write(self) -> None:
        if not self._waiting:
            return
        rows = {column.name: self._joined(column) for column in self._columns}
        self._waiting, self._waiting_bytes = [], 0
        self._digest.add(rows)
        arrays = [column.to_arrow(rows[column.name]) for column in self._columns]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _joined(self, column: Column) -> Array:
        joined: Array = np.concatenate([rows[column.name] for rows in self._waiting])
        return joined


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
