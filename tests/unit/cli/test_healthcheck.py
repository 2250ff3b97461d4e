"""`aisandbox healthcheck`, the probe of containers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from aisandbox_cli.main import main


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 0, "SERVING"),
        (["--service", "draining"], 1, "NOT_SERVING"),
        (["--service", "never-heard-of"], 1, "NOT_FOUND"),
    ],
)
def test_healthcheck_exit_code_is_the_health(
    service: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert main(["healthcheck", *arguments]) == code
    captured = capsys.readouterr()
    assert says in (captured.out + captured.err).split()


@pytest.mark.parametrize(("name", "code", "status"), [("", 0, "SERVING"), ("draining", 1, "NOT_SERVING")])
def test_healthcheck_as_json_tells_the_same(
    service: Any, capsys: pytest.CaptureFixture[str], name: str, code: int, status: str
) -> None:
    assert main(["healthcheck", "--service", name, "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told == {"address": service.address, "service": name, "status": status, "error": ""}


def test_healthcheck_as_json_says_why_there_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["healthcheck", "--timeout", "1", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "UNKNOWN"
    assert told["error"].startswith("UNAVAILABLE")


@pytest.mark.parametrize("wrong", [["--bogus"], ["--timeout", "soon"], ["stray"]])
def test_healthcheck_refuses_wrong_usage_as_other_commands_do(
    capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["healthcheck", *wrong]) == 2
    assert "Usage: aisandbox healthcheck" in capsys.readouterr().err


def test_healthcheck_fails_when_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["healthcheck", "--timeout", "1"]) == 1
    assert "127.0.0.1:1: UNAVAILABLE" in capsys.readouterr().err


def test_healthcheck_loads_nothing_it_does_not_need() -> None:
    """A probe is started every few seconds; what it imports is what it costs."""
    code = """
import sys
from aisandbox_cli.main import main
main(["healthcheck", "--address", "127.0.0.1:1", "--timeout", "0.5"])
print(*sorted({"typer", "rich", "numpy", "aisandbox.v1", "aisandbox_api", "google.rpc"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []
