"""The token file: what a line may be, what the error says, and what a change of the file does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aisandbox_access import InvalidTokenFile, NotAuthenticated, TokenFile, token_line
from structlog.testing import capture_logs

DIGEST = "sha256:" + "a" * 64


def write(path: Path, text: str, at: int) -> None:
    """Writes the file as of another time: two writes in one tick of the clock would look like one."""
    path.write_text(text)
    os.utime(path, ns=(at, at))


def test_token_is_that_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# people\n\n{token_line('alice', 'trainer,simulator', 'secret')} pools=arena,plant-*  # hers\n")
    principal = TokenFile(path).known("secret")
    assert (principal.name, sorted(principal.roles)) == ("alice", ["simulator", "trainer"])
    assert principal.pools == ("arena", "plant-*")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("alice trainer", "must be NAME ROLE[,ROLE] sha256:HEX"),
        (f"-x trainer {DIGEST}", "name: must be 1 to 128 letters"),
        (f"alice boss {DIGEST}", "roles: must be of viewer, actor, trainer, simulator, admin, got 'boss'"),
        ("alice trainer secret", "token: must be sha256: and the 64 hexadecimal digits"),
        (f"alice trainer {DIGEST} pool=a", "must have pools= and expires= after the token"),
        (f"alice trainer {DIGEST} pools=A", "pools: must be names of pools, which may end with *, got 'A'"),
        (f"alice trainer {DIGEST} expires=2030-01-01", "expires: must be a time with its zone"),
        (f"alice trainer {DIGEST}\nbob viewer {DIGEST}", "has the token of 'alice' again"),
    ],
)
def test_bad_line_is_named_with_its_rule(tmp_path: Path, line: str, rule: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# one\n{line}\n")
    with pytest.raises(InvalidTokenFile, match=r"line [23]: ") as caught:
        TokenFile(path)
    assert rule in str(caught.value)
    assert "secret" not in str(caught.value)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTokenFile, match=r"TOKEN_FILE: .*/none: cannot be read: No such file"):
        TokenFile(tmp_path / "none")


def test_expired_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(token_line("alice", "viewer", "secret") + " expires=2030-01-01T00:00:00Z\n")
    now = 1893455999.0
    tokens = TokenFile(path, lambda: now)
    assert tokens.known("secret").name == "alice"
    now += 1
    with pytest.raises(NotAuthenticated, match="the token of 'alice' has expired"):
        tokens.known("secret")


def test_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    write(path, token_line("alice", "viewer", "first"), 1)
    tokens = TokenFile(path)
    write(path, token_line("alice", "viewer", "second"), 2)
    tokens.renew()
    assert tokens.known("second").name == "alice"
    with pytest.raises(NotAuthenticated, match="not known"):
        tokens.known("first")
    write(path, "alice", 3)
    with capture_logs() as logs:
        tokens.renew()
    assert "line 1: must be NAME" in logs[0]["problem"]
    assert tokens.known("second").name == "alice"
