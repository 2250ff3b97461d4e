"""Takes one member of the workspace apart into the layers of its image: PyTorch, other packages, our own code.

usage: image_parts.py MEMBER FOLDER

Writes to FOLDER:
  torch.txt          PyTorch and the libraries only it needs, with the versions and hashes of uv.lock; mostly empty
  requirements.txt   the other packages from an index, likewise
  app/               our own packages with their metadata, compiled

The same input gives the same bytes, so a layer made from a part changes only with what is in it. Runs while an image is
built, with uv and hatchling beside it; must not know any member's name.
"""

from __future__ import annotations

import compileall
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from py_compile import PycInvalidationMode

WITH_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def main(member: str, folder: Path) -> None:
    """Writes the parts of ``member``; uv.lock must fit the workspace."""
    torch, others, own = sorted_out(exported(member))
    (folder / "app").mkdir(parents=True)
    (folder / "torch.txt").write_text("".join(torch))
    (folder / "requirements.txt").write_text("".join(others))
    for project in own:
        unpack_wheel(project, folder / "app")
    # Not by time: the files are as old as this build.
    if not compileall.compile_dir(folder / "app", quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH):
        raise SystemExit("an own package does not compile")


def exported(member: str) -> str:
    """The locked requirements of ``member`` with all its extras: a line for each package, members as ``./folder``."""
    command = ["uv", "export", "--locked", "--package", member, "--all-extras", "--no-dev", "--no-editable"]
    done = subprocess.run([*command, "--no-header", "--no-annotate"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cannot tell what {member} needs")  # uv has printed why
    return done.stdout


def sorted_out(requirements: str) -> tuple[list[str], list[str], list[Path]]:
    """PyTorch's entries, the others' and the folders of members; an entry has the lines of its hashes."""
    torch: list[str] = []
    others: list[str] = []
    own: list[Path] = []
    for entry in re.findall(r"^\S.*\n(?:\s.*\n)*", requirements, re.MULTILINE):
        if entry.startswith("./"):
            own.append(Path(entry.split()[0]))
        else:
            (torch if WITH_TORCH.match(entry) else others).append(entry)
    return torch, others, own


def unpack_wheel(project: Path, folder: Path) -> None:
    """Builds the member's wheel and lays out what is in it, as an installation does."""
    with tempfile.TemporaryDirectory() as out:
        command = ["uv", "build", "--quiet", "--wheel", "--no-build-isolation", "--out-dir", out, str(project)]
        subprocess.run(command, check=True)
        (wheel,) = Path(out).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
