"""What one of several forks has found out, the others know."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from aisandbox_process import passed_checks
from aisandbox_process.passed_checks import PassedChecks

FORKS = """
import os
from aisandbox_process.passed_checks import PassedChecks

checks = PassedChecks()
checks.share()

def fork(function):
    pid = os.fork()
    if pid == 0:
        found = function()
        print(found, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)

fork(lambda: "one" in checks)
fork(lambda: checks.add("one"))
fork(lambda: checks.add("two"))
fork(lambda: [name in checks for name in ("one", "two", "three")])
print([name in checks for name in ("one", "two", "three")])
"""


def shared() -> PassedChecks:
    checks = PassedChecks()
    checks.share()
    return checks


def test_nothing_is_kept_unless_it_is_shared() -> None:
    checks = PassedChecks()
    checks.add("one")
    assert "one" not in checks


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_check_that_passed_in_one_fork_is_known_to_its_parent_and_to_the_next_fork() -> None:
    ended = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120)
    assert ended.stderr == ""
    found = "[True, True, False]"
    assert ended.stdout.splitlines() == ["False", "None", "None", found, found]


@pytest.mark.skipif(os.name != "posix", reason="needs pread")
def test_another_parent_starts_without_any() -> None:
    shared().add("one")
    assert "one" not in shared()


@pytest.mark.skipif(os.name != "posix", reason="needs pread")
def test_no_more_are_kept_than_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_checks, "_MAX_BYTES", 2 * 32)
    checks = shared()
    for name in ("one", "one", "two", "three"):
        checks.add(name)
    assert [name in checks for name in ("one", "two", "three")] == [True, True, False]
