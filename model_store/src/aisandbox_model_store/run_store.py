"""The store: which runs have files, and where a run's output may go.

Owns the roots MODELS_DIR and CHECKPOINT_DIR and the checks of run ids and paths. Must not know what is in a run's
folder.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from aisandbox_model_store.errors import InvalidRunId, OutsideRoot
from aisandbox_model_store.layout import CHECKPOINTS_FOLDER, RUNS_FOLDER
from aisandbox_model_store.run_folder import RunFolder

_RUN_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_RUN_ID_RULE = "must have 1 to 63 characters a-z, 0-9 and '-', and begin and end with a letter or digit"

_LOOP_RULE = "cannot be resolved: its links are a loop"


class RunStore:
    """The files of all runs: ``models_dir``/runs/RUN and, for checkpoints, ``checkpoint_dir``/runs/RUN."""

    def __init__(self, models_dir: Path, checkpoint_dir: Path | None = None) -> None:
        self.models_dir = Path(models_dir).absolute()
        self.checkpoint_dir = self.models_dir if checkpoint_dir is None else Path(checkpoint_dir).absolute()

    @property
    def runs_paths(self) -> tuple[Path, ...]:
        """The parents of all runs' folders: below MODELS_DIR, and below CHECKPOINT_DIR if that is another."""
        return tuple(dict.fromkeys((self.models_dir / RUNS_FOLDER, self.checkpoint_dir / RUNS_FOLDER)))

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run, which need not exist. Raises InvalidRunId."""
        if not _RUN_ID.fullmatch(run_id):
            raise InvalidRunId(run_id[:100], _RUN_ID_RULE)
        return RunFolder(
            run_id=run_id,
            path=self.models_dir / RUNS_FOLDER / run_id,
            checkpoints_path=self.checkpoint_dir / RUNS_FOLDER / run_id / CHECKPOINTS_FOLDER,
            resolve_output=self.resolve_output,
        )

    def run_ids(self) -> list[str]:
        """Return the ids of the runs that have a folder, sorted."""
        try:
            entries = list((self.models_dir / RUNS_FOLDER).iterdir())
        except FileNotFoundError:
            return []
        return sorted(entry.name for entry in entries if _RUN_ID.fullmatch(entry.name) and entry.is_dir())

    def resolve_output(self, path: str) -> Path:
        """Return the absolute path of the output ``path``, which is relative to MODELS_DIR, with links resolved.

        Raises OutsideRoot for an absolute path, "..", a link that leaves MODELS_DIR, the folder "runs", a folder.
        """
        pure = PurePosixPath(path)
        if not path or "\0" in path or pure == PurePosixPath(".") or path.endswith(("/", "/.")):
            raise OutsideRoot(path, "must name a file")
        if pure.is_absolute() or PureWindowsPath(path).anchor or "\\" in path:
            raise OutsideRoot(path, "must be relative to MODELS_DIR, with '/' between folders")
        if ".." in pure.parts:
            raise OutsideRoot(path, "must not contain '..'")
        return self._resolve_inside(path)

    def _resolve_inside(self, path: str) -> Path:
        root = self.models_dir.resolve()
        try:
            resolved = (root / path).resolve()
        except OSError as error:
            raise OutsideRoot(path, f"cannot be resolved: {error.strerror}") from error
        except RuntimeError as error:
            raise OutsideRoot(path, _LOOP_RULE) from error
        if any(each.is_symlink() for each in (resolved, *resolved.parents)):  # from Python 3.13 nothing is raised
            raise OutsideRoot(path, _LOOP_RULE)
        if not resolved.is_relative_to(root) or resolved == root:
            raise OutsideRoot(path, "must not leave MODELS_DIR through a link")
        # Folded: on a file system that ignores case, "Runs" is the same folder.
        if resolved.relative_to(root).parts[0].casefold() == RUNS_FOLDER:
            raise OutsideRoot(path, f"must not be in the folder {RUNS_FOLDER!r}, which holds the runs' own files")
        checkpoints = self.checkpoint_dir.resolve()
        if checkpoints != root and resolved.is_relative_to(checkpoints):
            raise OutsideRoot(path, "must not be in CHECKPOINT_DIR, which holds the runs' own files")
        if resolved.is_dir():
            raise OutsideRoot(path, "must name a file, and is a folder")
        if resolved.exists() and not resolved.is_file():
            raise OutsideRoot(path, "must name a regular file, and is a pipe, a socket or a device")
        return resolved
