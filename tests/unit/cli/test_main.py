"""The list of commands, their help, and the command lines in the documents."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aisandbox_cli.errors import UsageError
from aisandbox_cli.main import COMMANDS, main
from aisandbox_cli.service_address import checked_address

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]


def _help(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        assert main([*command, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_a_description(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys, command)
    assert f"aisandbox {command}" in text
    assert len(text.splitlines()) > 5


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys)
    assert [name for name in COMMANDS if not re.search(rf"[│|] {name}\b", text)] == []


def _command_lines() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\$ )aisandbox (\S.*)$", text, re.M):
            yield document.name, line.split("  #")[0].strip()


def test_documents_contain_command_lines() -> None:
    assert len(list(_command_lines())) >= 8


@pytest.mark.parametrize(("document", "line"), list(_command_lines()))
def test_command_lines_of_documents_use_existing_options(
    document: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = line.split()
    assert command in COMMANDS
    text = _help(capsys, command)
    for option in [word.split("=")[0] for word in rest if re.fullmatch(r"--?[a-z].*", word)]:
        assert re.search(rf"(?<![\w-]){option}\b", text), f"{document}: {option} is no option of {command}"


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "train"), ("chek", "check-simulator"), ("host", "host-gymnasium"), ("Runs", "runs")]
)
def test_main_suggests_the_command_that_was_probably_meant(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    assert main([typed]) == 2
    assert f"Did you mean {meant!r}?" in capsys.readouterr().err


def test_main_suggests_nothing_for_an_unrelated_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2
    err = capsys.readouterr().err
    assert "unknown command 'xyzzy'" in err
    assert "Did you mean" not in err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_no_types_of_python(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys, *command.split())
    assert "--help" in text
    assert re.findall(r"<(?:bool|str|int|float|list)\b", text) == []


def test_examples_use_one_port_for_the_service_and_others_for_simulators(capsys: pytest.CaptureFixture[str]) -> None:
    ports: dict[str, set[str]] = {}
    for command in COMMANDS:
        for option, port in re.findall(
            r"(--simulator|--port|check-simulator|--address) (?:\S+:)?(\d{5})\b", _help(capsys, command)
        ):
            ports.setdefault(option, set()).add(port)
    assert ports["--simulator"] == {"50061"}
    assert ports["check-simulator"] == {"50061"}
    assert "50051" not in ports["--port"]


def test_main_disables_the_log_of_grpc_unless_the_user_sets_it() -> None:
    code = """
import os, sys
from aisandbox_cli.main import main
sys.argv[1:] = ["--help"]
main()
print(os.environ["GRPC_VERBOSITY"], file=sys.stderr)
"""
    for asked, found in (({}, "NONE"), ({"GRPC_VERBOSITY": "debug"}, "debug")):
        environ = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"} | asked
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=80)
        assert done.stderr.split()[-1] == found


def test_version_as_json_names_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["grpcio"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_commands_of_a_client_do_not_load_the_servers() -> None:
    """A command imports only what it needs; onnxruntime and the service are only for `up`."""
    code = """
import sys
from aisandbox_cli.main import main
main(["status", "x", "--address", "nowhere"])
heavy = {"aisandbox_api", "aisandbox_inference", "onnxruntime", "gymnasium", "torch", "numpy"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("address", ["localhost:1", "10.0.0.1:50051", "[::1]:65535", "dns:///a.b-c:50051"])
def test_check_address_accepts_host_and_port(address: str) -> None:
    checked_address(address)


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":1", "host:0", "host:65536", "http://host:1", "a b:1", "::1:1"]
)
def test_check_address_refuses_everything_else(address: str) -> None:
    with pytest.raises(UsageError, match="must be HOST:PORT"):
        checked_address(address)


@pytest.mark.parametrize("line", [["train", "poo"], ["runs", "--phase", "poo"]])
def test_an_invalid_choice_is_reported_without_the_name_of_its_exception(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 2
    error = capsys.readouterr().err
    assert "'poo' is not one of" in error
    assert "Value error" not in error
