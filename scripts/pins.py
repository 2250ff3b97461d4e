"""Pins what is fetched by name, and could be another thing tomorrow: the base image, and the actions of the workflows.

usage: pins.py lock | check | base

``lock`` writes the digest of the Dockerfile's base image into deploy/images.lock, and the commit of each action into
.github/workflows, with its tag as a comment, by which Dependabot renews it; it needs Docker and github.com. ``check``
says what is not pinned, and fails then; ``base`` prints the base image with its digest.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "deploy" / "images.lock"
WORKFLOWS = ROOT / ".github" / "workflows"
_BASE = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)
_LOCKED = re.compile(r"^(?!#)(\S+) (sha256:[0-9a-f]{64})$", re.MULTILINE)
_ACTION = re.compile(r"(?<=uses: )([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)@(\S+)(?: # (\S+))?$", re.MULTILINE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def base_image(dockerfile: str) -> str:
    """The name of the base image."""
    (name,) = _BASE.findall(dockerfile)
    return str(name)


def locked(lock: str) -> dict[str, str]:
    """The digests of deploy/images.lock by the names of their images."""
    return dict(_LOCKED.findall(lock))


def with_commits(workflow: str, commit_of: Callable[[str, str], str]) -> str:
    """A workflow with the commit of each action; ``commit_of(repository, tag)``."""

    def pinned(found: re.Match[str]) -> str:
        repository, path, reference, tag = found.groups()
        tag = tag or reference
        return f"{repository}{path}@{commit_of(repository, tag)} # {tag}"

    return _ACTION.sub(pinned, workflow)


def unpinned(dockerfile: str, lock: str, workflows: dict[str, str]) -> Iterator[str]:
    """A sentence for each thing that is fetched by its name only."""
    if (base := base_image(dockerfile)) not in locked(lock):
        yield f"deploy/images.lock has no digest of {base}"
    for name, text in workflows.items():
        for repository, path, reference, _ in _ACTION.findall(text):
            if not _COMMIT.fullmatch(reference):
                yield f"{name}: {repository}{path}@{reference} is not a commit"


def main(command: str) -> int:
    """The exit status."""
    dockerfile, lock = _read(ROOT / "Dockerfile"), _read(LOCK)
    paths = sorted(WORKFLOWS.glob("*.yml"))
    base = base_image(dockerfile)
    if command == "lock":
        kept = [line for line in lock.splitlines() if line.startswith("#")]
        LOCK.write_text("\n".join([*kept, f"{base} {_digest(base)}", ""]), encoding="utf-8")
        for path in paths:
            path.write_text(with_commits(_read(path), _commit), encoding="utf-8")
        return 0
    if command == "base":
        print(f"{base}@{locked(lock)[base]}")
        return 0
    found = list(unpinned(dockerfile, lock, {path.name: _read(path) for path in paths}))
    print("\n".join([*found, "make pins writes them"] if found else ["all is pinned"]), file=sys.stderr)
    return int(bool(found))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _digest(image: str) -> str:
    return _output("docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}")


def _commit(repository: str, tag: str) -> str:
    """The commit that a tag or a branch is at; of an annotated tag the one that it names."""
    names = [f"refs/tags/{tag}^{{}}", f"refs/tags/{tag}", f"refs/heads/{tag}"]
    answer = _output("git", "ls-remote", f"https://github.com/{repository}", *names)
    found: dict[str, str] = {name: commit for commit, name in re.findall(r"^(\w+)\t(\S+)$", answer, re.MULTILINE)}
    if not found:
        raise SystemExit(f"{repository} has no {tag}")
    return next(found[name] for name in names if name in found)


def _output(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cannot be asked: {' '.join(command)}")  # it has printed why
    return done.stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("lock", "check", "base"):
        raise SystemExit("usage: pins.py lock|check|base")
    sys.exit(main(sys.argv[1]))
