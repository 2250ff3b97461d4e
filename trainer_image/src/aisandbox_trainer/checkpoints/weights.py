"""What another run can take over from a model, in files that hold no pickle: weights, statistics, optimizers.

A run must not execute what another one has pickled. Weights and the statistics of VecNormalize are NumPy arrays in an
.npz file; of stable-baselines3's own zip only the entries that torch.load reads with ``weights_only`` are read, never
its pickled attributes. Must not know where the files are or whether they fit.
"""

from __future__ import annotations

import io
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.errors import UnusableFile

Array = NDArray[Any]

WEIGHTS = "weights.npz"
"""The file of a model's weights, in a folder of its own."""
STATISTICS = "normalization.npz"
"""The file of a checkpoint with the statistics of VecNormalize, beside the pickle that the run itself reads."""

_POLICY, _VARIABLE, _STATISTIC = "policy:", "variable:", "normalization:"
_STATISTIC_NAMES = ("obs_rms", "ret_rms")
_PARTS = ("mean", "var", "count")
_POLICY_ENTRY, _VARIABLES_ENTRY = "policy.pth", "pytorch_variables.pth"
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, RuntimeError)
"""What zipfile raises of a damaged file, besides an OSError without a number."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a model has learned.

    ``policy``: the policy's state_dict. ``variables``: parameters of the algorithm itself, as log_ent_coef.
    ``optimizers``: their state_dicts by SB3's names ("policy.optimizer"). ``statistics``: of VecNormalize, by names
    (:func:`statistics_of`); empty without one, or where the source has none.
    """

    policy: Mapping[str, torch.Tensor]
    variables: Mapping[str, torch.Tensor] = field(default_factory=dict)
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Array] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the policy's parameters."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.policy.values())


def weights_of(model: BaseAlgorithm) -> Weights:
    """The weights, variables, optimizers and statistics of a model, not copied."""
    parameters = model.get_parameters()
    return Weights(
        policy=parameters.pop("policy"),
        variables=_sb3_internals.variables_of(model),
        optimizers=parameters,
        statistics=statistics_of(model.get_vec_normalize_env()),
    )


def weights_bytes(model: BaseAlgorithm) -> bytes:
    """The file :data:`WEIGHTS`: the policy, the variables and the statistics of a model."""
    weights = weights_of(model)
    arrays = {_POLICY + name: _array(tensor) for name, tensor in weights.policy.items()}
    arrays |= {_VARIABLE + name: _array(tensor) for name, tensor in weights.variables.items()}
    return _npz({**arrays, **weights.statistics})


def statistics_bytes(normalize: VecNormalize) -> bytes:
    """The file :data:`STATISTICS`."""
    return _npz(statistics_of(normalize))


def read_weights(path: Path) -> Weights:
    """Reads the file :data:`WEIGHTS`. Raises UnusableFile, OSError."""
    arrays = _read_npz(path)

    def named(prefix: str) -> dict[str, torch.Tensor]:
        found = {name: array for name, array in arrays.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): torch.as_tensor(array) for name, array in found.items()}

    statistics = {name: array for name, array in arrays.items() if name.startswith(_STATISTIC)}
    return Weights(named(_POLICY), named(_VARIABLE), {}, statistics)


def read_statistics(path: Path) -> Mapping[str, Array]:
    """Reads the file :data:`STATISTICS`. Raises UnusableFile, OSError."""
    return _read_npz(path)


def read_zip(path: Path | BinaryIO, largest: int, *, optimizers: Collection[str] = ()) -> Weights:
    """The weights of a zip that ``model.save`` has written, and the states of those ``optimizers`` that it has.

    ``largest``: bytes that an entry may have. Other entries are not read. Raises UnusableFile, OSError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [_POLICY_ENTRY, _VARIABLES_ENTRY, *(f"{name}.pth" for name in optimizers)]
            present = set(archive.namelist())
            loaded = {name: _load(archive, name, largest) for name in names if name in present}
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # bz2 says with none that its data is damaged
            raise
        raise UnusableFile(f"it is damaged, or not a zip file of stable-baselines3 ({error})") from error
    policy, variables = loaded.pop(_POLICY_ENTRY, None), loaded.pop(_VARIABLES_ENTRY, {})
    if policy is None:
        raise UnusableFile(f"it is not a zip file of stable-baselines3: it has no {_POLICY_ENTRY}")
    for name, tensors in (("policy", policy), ("variables", variables)):
        if not isinstance(tensors, dict) or not all(isinstance(each, torch.Tensor) for each in tensors.values()):
            raise UnusableFile(f"its {name} is not a mapping of tensors")
    return Weights(dict(policy), dict(variables), {name.removesuffix(".pth"): each for name, each in loaded.items()})


def _load(archive: zipfile.ZipFile, name: str, largest: int) -> Any:
    size = archive.getinfo(name).file_size
    if size > largest:
        raise UnusableFile(f"its {name} has {size:,} bytes, and the networks of this run have not nearly as many")
    data = archive.read(name)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, from pickle's to torch's
        problem = str(error).strip().partition("\n")[0]
        if isinstance(error, pickle.UnpicklingError):  # PyTorch advises how to run its code
            problem = "it has pickled objects of other kinds, or is damaged"
        raise UnusableFile(f"its {name} cannot be read as tensors alone ({problem})") from error


def statistics_of(normalize: VecNormalize | None) -> dict[str, Array]:
    """The mean, variance and count of each statistic, by names: "normalization:obs_rms:KEY:mean" and so on."""
    if normalize is None:
        return {}
    found: dict[str, Array] = {}
    for name, statistic in _statistics(normalize):
        found |= {f"{_STATISTIC}{name}:{part}": np.asarray(getattr(statistic, part)) for part in _PARTS}
    return found


def set_statistics(normalize: VecNormalize, statistics: Mapping[str, Array]) -> None:
    """Sets what :func:`statistics_of` gave for a VecNormalize of the same spaces. Raises UnusableFile for another."""
    own = statistics_of(normalize)
    different = sorted(own.keys() ^ statistics.keys()) or [
        name
        for name, array in own.items()
        if array.shape != statistics[name].shape or statistics[name].dtype.kind not in "fiu"
    ]
    if different:
        raise UnusableFile(f"it has other statistics: {different[0].removeprefix(_STATISTIC)}")
    for name, statistic in _statistics(normalize):
        for part in _PARTS:
            value = statistics[f"{_STATISTIC}{name}:{part}"]
            setattr(statistic, part, float(value) if part == "count" else np.array(value, np.float64))


def _statistics(normalize: VecNormalize) -> Iterator[tuple[str, RunningMeanStd]]:
    for name in _STATISTIC_NAMES:
        statistic = vars(normalize).get(name)  # without norm_obs there is none, and getattr would ask what it wraps
        if isinstance(statistic, dict):
            yield from ((f"{name}:{key}", each) for key, each in statistic.items())
        elif statistic is not None:
            yield name, statistic


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _npz(arrays: Mapping[str, Array]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # not np.savez: the time in it would make each file another one
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue())
    return file.getvalue()


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in file.zip.infolist()):
                raise UnusableFile("it is compressed, which no trainer does")
            return {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, KeyError, EOFError, AttributeError) as error:
        raise UnusableFile(f"it is not a file of arrays ({error})") from error
