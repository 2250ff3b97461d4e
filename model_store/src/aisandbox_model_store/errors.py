"""What can go wrong with the files of a run.

    ModelStoreError
    ├── RunNotFound          no folder of that run (transient while a run has not started)
    ├── InvalidRunId         not a valid name of a run; permanent
    ├── InvalidSelector      not latest, best, final, step:N or sha256:...; permanent
    ├── ModelNotFound        the run has no such model (transient while it trains)
    ├── CheckpointNotFound   the run has no such checkpoint (transient while it trains)
    ├── InvalidArtifact      files that cannot be published: not a flat set of regular files; permanent
    ├── OutsideRoot          an output path that leaves MODELS_DIR or is reserved; permanent
    ├── OtherDigest          a file of users is not the one that is asked for; permanent
    ├── Damaged              the bytes on disk are not the bytes that were published; permanent
    ├── Fenced               a newer attempt has claimed the run; this one must stop
    ├── RunReplaced          a newer run of the same name has claimed the folder; this one must stop
    └── DiskFull             no space left; what was published before is intact (transient)

Any other OSError of the file system is passed on unchanged.
"""

from __future__ import annotations

from pathlib import Path

RUN_ID_REQUIRED = "is required: the run_id that the start call returned"
"""The rule that a request with an empty run_id breaks, in every service."""


def unknown_run(run: str) -> str:
    """The sentence with which every service refuses a run_id that is of no run."""
    return f"run {run[:100]!r} does not exist"


class ModelStoreError(Exception):
    """Base of the errors of this package."""


class RunNotFound(ModelStoreError):
    """There is no folder of the run ``run``."""

    def __init__(self, run: str) -> None:
        super().__init__(unknown_run(run))
        self.run = run


class InvalidRunId(ModelStoreError, ValueError):
    """``run`` cannot be the name of a run; ``rule`` is the rule it breaks."""

    def __init__(self, run: str, rule: str) -> None:
        super().__init__(f"run_id {run!r}: {rule}")
        self.run = run
        self.rule = rule


class InvalidSelector(ModelStoreError, ValueError):
    """``selector`` does not select a model; ``rule`` lists what does."""

    def __init__(self, selector: str, rule: str) -> None:
        super().__init__(f"model {selector!r}: {rule}")
        self.selector = selector
        self.rule = rule


class ModelNotFound(ModelStoreError):
    """The run ``run`` has no model ``selector``, because of ``why``."""

    def __init__(self, run: str, selector: str, why: str) -> None:
        super().__init__(f"run {run!r} has no model {selector!r}: {why}")
        self.run = run
        self.selector = selector
        self.why = why


class CheckpointNotFound(ModelStoreError):
    """The run ``run`` has no checkpoint ``selector``, because of ``why``."""

    def __init__(self, run: str, selector: str, why: str) -> None:
        super().__init__(f"run {run!r} has no checkpoint {selector!r}: {why}")
        self.run = run
        self.selector = selector
        self.why = why


class InvalidArtifact(ModelStoreError, ValueError):
    """The files to publish as ``name`` break ``rule``: an artifact is a flat set of at least one regular file."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"{name}: {rule}")
        self.name = name
        self.rule = rule


class OutsideRoot(ModelStoreError, ValueError):
    """The output path ``path`` may not be written; ``rule`` is the rule it breaks."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"path {path!r}: {rule}")
        self.path = path
        self.rule = rule


class Damaged(ModelStoreError):
    """The files at ``path`` are not the ones that were published; ``why`` is the difference."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.path = path
        self.why = why


class OtherDigest(ModelStoreError):
    """The file ``path`` of users has the digest ``found``, and not the one that is asked for."""

    def __init__(self, path: str, found: str, asked: str) -> None:
        super().__init__(f"the file {path!r} has the digest {found}, and not {asked}")
        self.path = path
        self.found = found


class Fenced(ModelStoreError):
    """Attempt ``attempt`` may not publish: attempt ``newest``, a greater fencing token, has claimed the run."""

    def __init__(self, attempt: int, newest: int) -> None:
        super().__init__(f"attempt {attempt} may not publish: attempt {newest} has claimed the run")
        self.attempt = attempt
        self.newest = newest


class RunReplaced(ModelStoreError):
    """The run with the uid ``uid`` may not publish: a newer run of the same name ``run`` has claimed the folder."""

    def __init__(self, run: str, uid: str) -> None:
        super().__init__(f"run {run!r} with uid {uid} may not publish: a newer run has this name")
        self.run = run
        self.uid = uid


class DiskFull(ModelStoreError):
    """No space left while writing below ``path``; nothing half-written stays, what was published before is intact."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no space left to write below {path}: free some space; what was published before is intact")
        self.path = path
