"""The disk contract: the layout of a run's folder, and how its files are published, verified and read.

Owns every path below MODELS_DIR and CHECKPOINT_DIR. Standard library only: the trainer, the inference-server and the
api-server import this, and it imports nothing heavy. Must not know what is in the files.

The public face is what is named here, and the module :mod:`aisandbox_model_store.served_model`, the files of a
published model. The other modules are internal.
"""

from aisandbox_model_store.artifacts import Bundle, Published
from aisandbox_model_store.atomic_file import create_folder, write_atomically
from aisandbox_model_store.errors import (
    RUN_ID_REQUIRED,
    CheckpointNotFound,
    Damaged,
    DiskFull,
    Fenced,
    InvalidArtifact,
    InvalidRunId,
    InvalidSelector,
    ModelNotFound,
    ModelStoreError,
    OtherDigest,
    OutsideRoot,
    RunNotFound,
    RunReplaced,
    unknown_run,
)
from aisandbox_model_store.layout import (
    CHECKPOINT_ZIP,
    DEMONSTRATIONS_SUFFIX,
    LARGEST_RECORD,
    MANIFEST_FILE,
    RUNS_FOLDER,
    SOURCES_FOLDER,
)
from aisandbox_model_store.manifest import FileEntry, Manifest
from aisandbox_model_store.outputs import OutputRecord, publish_output, written_by
from aisandbox_model_store.ownership import uid_of
from aisandbox_model_store.regular_file import open_regular, read_regular
from aisandbox_model_store.run_folder import RunFolder
from aisandbox_model_store.run_store import RunStore
from aisandbox_model_store.selection import ModelSelector, Pointer, parse_selector
from aisandbox_model_store.signatures import CheckpointKey, is_signed
from aisandbox_model_store.starting_points import (
    LARGEST_LEARNER,
    LEARNER_FILE,
    StartingPoint,
    digest_of,
    find_published,
    open_file,
)
from aisandbox_model_store.writer import Writer

__all__ = [
    "CHECKPOINT_ZIP",
    "DEMONSTRATIONS_SUFFIX",
    "LARGEST_LEARNER",
    "LARGEST_RECORD",
    "LEARNER_FILE",
    "MANIFEST_FILE",
    "RUNS_FOLDER",
    "RUN_ID_REQUIRED",
    "SOURCES_FOLDER",
    "Bundle",
    "CheckpointKey",
    "CheckpointNotFound",
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
    "OtherDigest",
    "OutputRecord",
    "OutsideRoot",
    "Pointer",
    "Published",
    "RunFolder",
    "RunNotFound",
    "RunReplaced",
    "RunStore",
    "StartingPoint",
    "Writer",
    "create_folder",
    "digest_of",
    "find_published",
    "is_signed",
    "open_file",
    "open_regular",
    "parse_selector",
    "publish_output",
    "read_regular",
    "uid_of",
    "unknown_run",
    "write_atomically",
    "written_by",
]
