"""What can go wrong with the files of a run.

    ModelStoreError
    ├── RunNotFound          no folder of that run (transient while a run has not started)
    ├── InvalidRunId         not the name of a run
    ├── InvalidSelector      not latest, best, final, step:N or sha256:...
    ├── ModelNotFound        the run has no such model (transient while it trains)
    ├── InvalidArtifact      what was to be published is not a flat set of files
    ├── OutsideRoot          a path that leaves MODELS_DIR or names what is not the caller's
    ├── Damaged              the bytes on disk are not the bytes that were published
    ├── Fenced               a newer attempt has taken the run over; this one must stop
    ├── Replaced             a newer run of the same name has the folder now; this one must stop
    └── DiskFull             no space left; what was published before is intact

Any other OSError of the file system is passed on as it is.
"""

from __future__ import annotations

from pathlib import Path


class ModelStoreError(Exception):
    """Base of the errors of this package."""


class RunNotFound(ModelStoreError):
    """There is no folder of the run ``run``."""

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run!r} has no files")
        self.run = run


class InvalidRunId(ModelStoreError, ValueError):
    """``run`` cannot be the name of a run; ``rule`` says why."""

    def __init__(self, run: str, rule: str) -> None:
        super().__init__(f"run_id {run!r}: {rule}")
        self.run = run
        self.rule = rule


class InvalidSelector(ModelStoreError, ValueError):
    """``selector`` does not say which model; ``rule`` says what does."""

    def __init__(self, selector: str, rule: str) -> None:
        super().__init__(f"model {selector!r}: {rule}")
        self.selector = selector
        self.rule = rule


class ModelNotFound(ModelStoreError):
    """The run ``run`` has no model ``selector``; ``why`` says what is missing."""

    def __init__(self, run: str, selector: str, why: str) -> None:
        super().__init__(f"run {run!r} has no model {selector!r}: {why}")
        self.run = run
        self.selector = selector
        self.why = why


class InvalidArtifact(ModelStoreError, ValueError):
    """What was to be published at ``name`` is not a flat set of at least one regular file."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"{name}: {rule}")
        self.name = name
        self.rule = rule


class OutsideRoot(ModelStoreError, ValueError):
    """The path ``path`` may not be written; ``rule`` says which rule it breaks."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"path {path!r}: {rule}")
        self.path = path
        self.rule = rule


class Damaged(ModelStoreError):
    """The files at ``path`` are not the ones that were published; ``why`` says how they differ."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.path = path
        self.why = why


class Fenced(ModelStoreError):
    """Attempt ``attempt`` may not publish: attempt ``newest`` has claimed the run."""

    def __init__(self, attempt: int, newest: int) -> None:
        super().__init__(f"attempt {attempt} may not publish: attempt {newest} has claimed the run")
        self.attempt = attempt
        self.newest = newest


class Replaced(ModelStoreError):
    """The run with the uid ``uid`` may not publish: another run of the name ``run`` has the folder."""

    def __init__(self, run: str, uid: str) -> None:
        super().__init__(f"run {run!r} of uid {uid} may not publish: another run of this name has taken its place")
        self.run = run
        self.uid = uid


class DiskFull(ModelStoreError):
    """No space left while writing below ``path``; nothing half-written stays, what was published before is intact."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no space left to write below {path}: free some, what was published before is intact")
        self.path = path
