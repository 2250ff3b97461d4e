"""A replay buffer as a file, written and read without a copy: a buffer may fill most of a trainer's memory.

The file is a length (8 bytes, little-endian), that many bytes of JSON that name the arrays, and the bytes of the
arrays. Must not know the rest of a checkpoint.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import structlog
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from aisandbox_trainer.algorithms.environment_count import can_regroup, clear, regroup
from aisandbox_trainer.errors import UnusableFile

_KINDS_OF_ARRAYS = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)
"""Replay buffers that are whole with their arrays and their position."""
_LENGTH = 8
_LARGEST_HEADER = 1 << 20

log = structlog.get_logger(__name__)


def save(model: OffPolicyAlgorithm, buffer: ReplayBuffer, path: Path) -> None:
    """Writes only the filled part: a buffer is allocated whole, and mostly empty for a long time. Raises OSError."""
    if type(buffer) not in _KINDS_OF_ARRAYS:
        model.save_replay_buffer(path)
        return
    # With optimize_memory_usage, the observation after the last one is in the next place.
    filled = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
    arrays = list(_arrays(buffer))
    layout = [(name, array.dtype.str, (filled, *array.shape[1:])) for name, array in arrays]
    header = json.dumps({"pos": buffer.pos, "full": buffer.full, "layout": layout}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(_LENGTH, "little") + header)
        for _, array in arrays:
            file.write(_bytes_of(array[:filled]))


def load(
    model: OffPolicyAlgorithm,
    buffer: ReplayBuffer,
    path: Path,
    read: Callable[[], bytes] | None = None,
    *,
    may_be_pickled: bool = True,
) -> None:
    """Fills the buffer, also if it was stored for another number of environments. Raises OSError.

    ``read`` returns the verified bytes of the file at ``path``, for a buffer that is a pickle as a whole. The header of
    another one is a pickle only in files of earlier versions: ``may_be_pickled``. Raises UnusableFile for others.

    It stays empty, with a warning, if it was stored for other spaces, or if :func:`regroup` cannot take it.
    """
    if type(buffer) not in _KINDS_OF_ARRAYS:
        model.load_replay_buffer(io.BytesIO(path.read_bytes() if read is None else read()))
        return
    with path.open("rb") as file:
        data = file.read(int.from_bytes(file.read(_LENGTH), "little"))
        if not (data.startswith(b"{") or may_be_pickled):
            raise UnusableFile("the header of the replay buffer is not JSON")
        header = json.loads(data) if data.startswith(b"{") else pickle.loads(data)  # noqa: S301
        if problem := _fill(buffer, header, file):
            log.warning("the stored replay buffer does not fit and is dropped", layout=header["layout"], why=problem)


def take(buffer: ReplayBuffer, path: Path) -> None:
    """Fills an empty buffer from the file of another run. Raises UnusableFile if it does not fit, OSError."""
    if type(buffer) not in _KINDS_OF_ARRAYS:
        raise UnusableFile(f"a {type(buffer).__name__} cannot be taken over without reading a pickle")
    with path.open("rb") as file:
        data = file.read(min(int.from_bytes(file.read(_LENGTH), "little"), _LARGEST_HEADER))
        if not data.startswith(b"{"):
            raise UnusableFile("the replay buffer was saved by an earlier version, with a pickle")
        try:
            header = json.loads(data)
            rows, environments = (int(each) for each in header["layout"][0][2][:2])
            stored, size = rows * environments, buffer.buffer_size * buffer.n_envs
            pos, full = header["pos"], header["full"]
            if min(rows, environments) < 1 or type(pos) is not int or not 0 <= pos <= rows or type(full) is not bool:
                raise ValueError(f"{rows} rows, {environments} environments, pos {header['pos']}")
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise UnusableFile(f"the replay buffer is malformed ({error!r})") from error
        if stored > size or (full and stored != size):
            fits = f"the replay buffer of {stored:,} transitions does not fit in buffer_size={size}"
            raise UnusableFile(f"{fits}: set buffer_size={stored}")
        try:
            problem = _fill(buffer, header, file)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UnusableFile(f"the replay buffer is malformed ({error!r})") from error
        if problem:
            raise UnusableFile(f"the replay buffer {problem}")


def _fill(buffer: ReplayBuffer, header: dict[str, Any], file: BinaryIO) -> str:
    """Reads what ``header`` describes into the buffer; why not, and an empty buffer, if it does not fit."""
    size, number = buffer.buffer_size, buffer.n_envs
    _take_layout(buffer, header)
    own = dict(_arrays(buffer))
    layout: list[tuple[Any, Any, Any]] = [
        (own.get(name), np.dtype(dtype), tuple(shape)) for name, dtype, shape in header["layout"]
    ]
    targets = [array[: shape[0]] for array, dtype, shape in layout if _fits(array, dtype, shape)]
    problem = "has other observations or actions" if len(targets) < len(layout) else ""
    if not problem and not 0 <= header["pos"] < buffer.buffer_size:
        problem = f"goes on at {header['pos']}, where it has no place"
    for target in () if problem else targets:
        memory = _bytes_of(target)
        if file.readinto(memory) != len(memory):  # type: ignore[attr-defined]
            problem = "ends in the middle of its arrays"
            break
    if problem:
        clear(buffer, size, number)
        return problem
    buffer.pos, buffer.full = header["pos"], header["full"]
    regroup(buffer, number)
    return ""


def _take_layout(buffer: ReplayBuffer, header: dict[str, Any]) -> None:
    """Gives an empty buffer the rows and environments of the stored one: those of a full one are all transitions."""
    filled, stored = next((shape[:2] for _, _, shape in header["layout"]), (0, buffer.n_envs))
    rows = filled if header["full"] else max(buffer.buffer_size * buffer.n_envs // stored, filled)
    if can_regroup(buffer) and (rows, stored) != (buffer.buffer_size, buffer.n_envs):
        clear(buffer, rows, stored)


def _arrays(buffer: ReplayBuffer) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array by its name; those of a dict of observations each."""
    for name, value in vars(buffer).items():
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, dict) and name.endswith("observations"):
            yield from ((f"{name}/{key}", inner) for key, inner in value.items())


def _fits(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return array is not None and array.dtype == dtype and array.shape[1:] == shape[1:] and array.shape[0] >= shape[0]


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """The memory of an array, whose first axis may be cut, without a copy."""
    plain: Any = array.reshape(-1).view(np.uint8)
    return memoryview(plain)
