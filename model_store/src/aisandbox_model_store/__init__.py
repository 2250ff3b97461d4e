"""The disk contract: what the folder of a run looks like, how it is published to, verified and read.

Owns every path below MODELS_DIR and CHECKPOINT_DIR. Standard library only: whoever reads or writes a run's files
(trainer, inference-server, api-server, a person with a REPL) imports this and nothing heavy. Must not know what is in
the files.
"""

from aisandbox_model_store.atomic_file import write_atomically
from aisandbox_model_store.errors import (
    Damaged,
    DiskFull,
    Fenced,
    InvalidArtifact,
    InvalidRunId,
    InvalidSelector,
    ModelNotFound,
    ModelStoreError,
    OutsideRoot,
    Replaced,
    RunNotFound,
)
from aisandbox_model_store.layout import CHECKPOINT_ZIP, MANIFEST_FILE
from aisandbox_model_store.manifest import FileEntry, Manifest
from aisandbox_model_store.run_folder import Bundle, Pointer, Published, RunFolder
from aisandbox_model_store.run_store import RunStore
from aisandbox_model_store.selector import ModelSelector, parse_selector
from aisandbox_model_store.writer import Writer

__all__ = [
    "CHECKPOINT_ZIP",
    "MANIFEST_FILE",
    "Bundle",
    "Damaged",
    "DiskFull",
    "Fenced",
    "FileEntry",
    "InvalidArtifact",
    "InvalidRunId",
    "InvalidSelector",
    "Manifest",
    "ModelNotFound",
    "ModelSelector",
    "ModelStoreError",
    "OutsideRoot",
    "Pointer",
    "Published",
    "Replaced",
    "RunFolder",
    "RunNotFound",
    "RunStore",
    "Writer",
    "parse_selector",
    "write_atomically",
]
