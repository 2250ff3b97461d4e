"""What hints call the program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from aisandbox_cli.program import command


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shell finds `aisandbox`."""
    (tmp_path / "aisandbox").touch(mode=0o755)
    (tmp_path / "aisandbox.exe").touch()
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.chdir(tmp_path)


def test_command_is_short_when_the_shell_finds_it(found: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/bin/aisandbox"])
    assert command("up") == "aisandbox up"


@pytest.mark.parametrize("called", [".venv/bin/aisandbox", "{here}/.venv/bin/aisandbox"])
def test_command_is_as_it_was_called_when_the_shell_does_not_find_it(
    called: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [called.format(here=tmp_path)])
    assert Path(command("").strip()) == Path(".venv/bin/aisandbox")


def test_command_is_a_path_when_only_uv_finds_it(found: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv" / "bin" / "aisandbox")])
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert Path(command("").strip()) == Path(".venv/bin/aisandbox")


def test_command_of_a_module_names_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/aisandbox_cli/__main__.py"])
    monkeypatch.setattr(sys, "executable", "/py/python")
    assert command("up") == f"{Path('/py/python')} -m aisandbox_cli up"


def test_command_of_another_program_that_uses_this_one_is_the_plain_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert command("up") == "aisandbox up"
