"""Checkpoints of earlier versions: where the pickled classes are defined now, and fields that are new since.

A checkpoint holds pickles, which name classes by module. Owns the tables from old names to new ones; each entry stays
as long as checkpoints with the old name may exist. Must not know what the classes hold.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

_ROOT = "aisandbox_trainer"

CLASSES = {
    f"{_ROOT}.checkpoints.State": f"{_ROOT}.checkpoints.files.TrainingState",
    f"{_ROOT}.checkpoints.Ratings": f"{_ROOT}.checkpoints.files.EvaluationResults",
    f"{_ROOT}.checkpoints.files.Ratings": f"{_ROOT}.checkpoints.files.EvaluationResults",
    f"{_ROOT}.random_state.RandomState": f"{_ROOT}.checkpoints.random_state.RandomState",
    f"{_ROOT}.episodes.Episodes": f"{_ROOT}.checkpoints.episodes.Episodes",
    f"{_ROOT}.presentation.Presentation": f"{_ROOT}.environments.space_adapter.SpaceAdapter",
    f"{_ROOT}.in_process.PresentedEnv": f"{_ROOT}.environments.in_process.AdaptedEnv",
    f"{_ROOT}.in_process.AdapterEnv": f"{_ROOT}.environments.in_process.AdapterEnv",
}
"""Old qualified class names -> today's. Most old names are those of the one-folder package before version 0.2."""

ATTRIBUTES = {f"{_ROOT}.environments.in_process.AdaptedEnv": {"presentation": "space_adapter"}}
"""Today's class name -> its attributes whose names have changed, old -> new."""


class CompatibleUnpickler(pickle.Unpickler):
    """Reads a pickle of this version or an earlier one."""

    def find_class(self, module: str, name: str) -> Any:
        """The class under today's name."""
        new_module, _, new_name = current_class_name(f"{module}.{name}").rpartition(".")
        return super().find_class(new_module, new_name)


def load_pickle(data: bytes) -> Any:
    """The object in ``data``, which a trainer wrote; fields that are new since have their defaults.

    Raises what unpickling raises.
    """
    return with_new_fields(CompatibleUnpickler(io.BytesIO(data)).load())


def with_new_fields(value: Any) -> Any:
    """The same; fields that a dataclass with slots, or one in it, lacks after unpickling get their defaults."""
    for field in fields(value) if is_dataclass(value) else ():
        if hasattr(value, field.name):
            with_new_fields(getattr(value, field.name))
        else:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if default is not MISSING:
                object.__setattr__(value, field.name, default)
    return value


def current_class_name(name: str) -> str:
    """Today's qualified name of a class that was stored as ``name``."""
    return CLASSES.get(name, name)


def current_attributes(class_name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Stored attributes of an instance of ``class_name`` (today's) under today's names."""
    renamed = ATTRIBUTES.get(class_name, {})
    return {renamed.get(name, name): value for name, value in attributes.items()}
