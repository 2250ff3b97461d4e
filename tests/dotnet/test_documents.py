"""The C# of the documents compiles against the contract, and its simulator passes the compliance suite.

Needs the .NET SDK (`make dotnet`); without one the tests are skipped, unless REQUIRE_DOTNET is set, as CI does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import wait_until

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILD = ROOT / "build" / "dotnet"
POLICY_README = "clients/dotnet/src/AISandbox.Policy/README.md"

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        shutil.which("dotnet") is None and not os.environ.get("REQUIRE_DOTNET"), reason="no .NET SDK is installed"
    ),
]


def _examples(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        example.replace("\r", "") for example in re.findall(r"^```csharp\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def _extract(project: str, files: dict[str, str]) -> None:
    folder = BUILD / "extracted" / project
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _build(project: str) -> Path:
    """Builds the project; returns its program."""
    command = ["dotnet", "build", str(HERE / project / f"{project}.csproj"), "--nologo", "-v:quiet", "-c:Release"]
    # No server of the compiler is left behind.
    command += ["-nodeReuse:false", "-p:UseSharedCompilation=false"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "bin" / project / "Release" / "net10.0" / f"{project}.dll"


def _as_methods(examples: list[str]) -> Iterator[tuple[str, str]]:
    """Each example as the body of a method, with the namespaces that the examples before it have named."""
    usings: list[str] = []
    for number, example in enumerate(examples):
        lines = example.splitlines()
        usings += [line for line in lines if re.match(r"using [\w.]+;$", line) and line not in usings]
        body = "\n".join(line for line in lines if line not in usings)
        method = f"public static async Task Run() {{ await Task.CompletedTask;\n{body}\n}}"
        yield f"Example{number}.cs", "\n".join([*usings, f"static class Example{number} {{ {method} }}\n"])


def test_csharp_of_the_clients_compiles() -> None:
    examples = [*_examples("README.md"), *_examples("docs/kubernetes.md")]
    assert examples
    _extract("Client", dict(_as_methods(examples)))
    _build("Client")


@contextmanager
def _running(program: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(["dotnet", program], stdout=out, stderr=out) as process:
        try:
            wait_until(lambda: "Now listening on" in log.read_text(), seconds=60, every=0.05)
            yield
        finally:
            process.kill()


def test_csharp_simulator_of_the_documents_keeps_the_contract(tmp_path: Path) -> None:
    program, service = _examples("docs/simulators.md")
    assert program.count("ListenLocalhost(50061,") == 1
    # Kestrel takes port 0 only for an address, and says in its log which one it is.
    program = program.replace("ListenLocalhost(50061,", "Listen(System.Net.IPAddress.Loopback, 0,")
    _extract("Simulator", {"Program.cs": program, "CartPoleService.cs": service})
    built, log = _build("Simulator"), tmp_path / "log"
    with _running(built, log):
        port = re.search(r"Now listening on: http://127\.0\.0\.1:(\d+)", log.read_text())
        assert port
        check = [sys.executable, "-m", "aisandbox_cli", "check-simulator", f"127.0.0.1:{port[1]}"]
        done = subprocess.run(check, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()


def _program(name: str, examples: list[str], before: str = "") -> str:
    """The examples, one after another, as the main method of a class."""
    lines = "\n".join(examples).splitlines()
    usings = [line for line in lines if re.match(r"using [\w.]+;$", line)]
    body = "\n".join(line for line in lines if line not in usings)
    main = f"public static async Task Main() {{ await Task.CompletedTask; {before}\n{body}\n}}"
    return "\n".join([*usings, f"static class {name} {{ {main} }}\n"])


@pytest.fixture(scope="module")
def policies() -> Path:
    """The folder of exported policies."""
    folder = BUILD / "policies"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, str(ROOT / "tests/support/dotnet_policies.py"), str(folder)], check=True)
    return folder


def test_csharp_of_the_policies_page_acts(policies: Path, tmp_path: Path) -> None:
    load, follow = _examples("docs/policies.md")
    readme = _examples(POLICY_README)
    assert readme[0] == load
    _extract(
        "Policy",
        {
            "Example0.cs": _program("Example0", [load]),
            "Example1.cs": _program("Example1", [load, follow]),
            "Example2.cs": _program("Example2", readme[:2], before="var pixels = new byte[4];"),
            "Example3.cs": _program("Example3", ["using AISandbox;", *readme[2:]]),
        },
    )
    program = _build("Policy")
    folder = next(
        path.parent for path in policies.glob("*/expected.json") if '"PPO-vector-box"' in path.read_text()[:60]
    )
    shutil.copy(folder / "policy.onnx", tmp_path)

    done = subprocess.run(["dotnet", str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"action: -?[\d.]+\s*", done.stdout)
    assert done.stderr == ""
