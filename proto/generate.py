"""Generates the Python of the wire contract from proto/aisandbox/v1/*.proto into proto/src (``make proto``).

With ``--check`` nothing is written and the exit status is 1 when what is committed is not what would be generated.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent
PACKAGE = Path("aisandbox/v1")


def generate(destination: Path) -> None:
    """Runs protoc on every .proto file; raises SystemExit with protoc's status when it fails."""
    # protoc looks for its plugins on PATH; they were installed beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).glob("*.proto"))
    arguments = [f"--{plugin}_out={destination}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    includes = [f"--proto_path={ROOT}", f"--proto_path={files('grpc_tools') / '_proto'}"]
    status = protoc.main(["protoc", *includes, *arguments, *sources])
    if status:
        raise SystemExit(status)
    package = destination / PACKAGE
    (package / "__init__.py").write_text("")
    (package / "py.typed").write_text("")
    for service in package.glob("*_pb2_grpc.py"):
        if "add_" not in service.read_text():  # a file without a service
            service.unlink()
            service.with_suffix(".pyi").unlink(missing_ok=True)


def outdated(committed: Path, current: Path) -> list[str]:
    """The names of the files that differ between two folders of generated code."""
    folders = [folder for folder in (committed, current) if folder.is_dir()]
    names = {path.name for folder in folders for path in folder.iterdir() if path.is_file()}
    _, mismatch, errors = filecmp.cmpfiles(committed, current, names, shallow=False)
    return sorted(mismatch + errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only tell whether the committed code is current")
    check = parser.parse_args().check
    committed = ROOT / "src" / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / PACKAGE
        generate(Path(folder))
        names = outdated(committed, current)
        if not check:  # only now: a protoc that fails leaves the existing files
            shutil.rmtree(committed, ignore_errors=True)
            shutil.copytree(current, committed)
    if check and names:
        print(f"not generated from the .proto files as they are: {', '.join(names)}; run `make proto`", file=sys.stderr)
    return 1 if check and names else 0


if __name__ == "__main__":
    raise SystemExit(main())
