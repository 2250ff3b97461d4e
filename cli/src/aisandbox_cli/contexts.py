"""Logins that were stored: the address of a service, its authorities and a token, by the name of a context.

    XDG_CONFIG_HOME/aisandbox/current          the name of the context in use
    XDG_CONFIG_HOME/aisandbox/contexts/NAME/   service.json, ca.crt and token

Only their owner may read the files. Must not know how a service is called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from aisandbox_cli.errors import UsageError

CONTEXT_VARIABLE = "AISANDBOX_CONTEXT"
DEFAULT_NAME = "default"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Context:
    """A stored login. ``ca_file`` and ``token_file`` are None where there is none."""

    name: str
    address: str
    tls: bool
    server_name: str
    ca_file: Path | None
    token_file: Path | None


def current_context() -> Context | None:
    """The context that AISANDBOX_CONTEXT names, else the one of the last login; None without a login.

    Raises UsageError for a name that is not stored.
    """
    named = os.environ.get(CONTEXT_VARIABLE, "")
    name = named or current_name()
    if not name:
        return None
    found = _read(checked_name(name))
    if found is None and named:
        raise UsageError(f"{CONTEXT_VARIABLE} {named!r}: there is no such login")
    return found


def store(
    name: str, address: str, *, tls: bool, server_name: str = "", ca: bytes | None = None, token: str = ""
) -> Context:
    """Stores a login and makes it the one in use. Raises UsageError for a name that is none, OSError."""
    folder = _folder(checked_name(name))
    _make_private(folder)
    _write(folder / "service.json", json.dumps({"address": address, "tls": tls, "serverName": server_name}).encode())
    for file, content in (("ca.crt", ca), ("token", token.encode())):
        if content:
            _write(folder / file, content)
        else:
            (folder / file).unlink(missing_ok=True)
    _write(_base() / "current", name.encode())
    found = _read(name)
    if found is None:
        raise OSError(f"{folder} cannot be read")
    return found


def remove(name: str) -> bool:
    """Forgets a login; returns whether there was one. Raises UsageError for a name that is none, OSError."""
    folder = _folder(checked_name(name))
    there = folder.is_dir()
    if there:
        shutil.rmtree(folder)
    if current_name() == name:
        (_base() / "current").unlink(missing_ok=True)
    return there


def current_name() -> str:
    """The name of the last login; empty without one."""
    try:
        return (_base() / "current").read_text("utf-8").strip()
    except OSError:
        return ""


def checked_name(name: str) -> str:
    """``name``. Raises UsageError if no context can have it."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"context {name[:80]!r}: must be at most 63 letters, digits, '.', '_' and '-'")
    return name


def _base() -> Path:
    if os.name == "nt" and not os.environ.get("XDG_CONFIG_HOME"):
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "aisandbox"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "aisandbox"


def _folder(name: str) -> Path:
    return _base() / "contexts" / name


def _read(name: str) -> Context | None:
    folder = _folder(name)
    try:
        service = json.loads((folder / "service.json").read_text("utf-8"))
        address, tls, server_name = service["address"], bool(service["tls"]), str(service["serverName"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ca, token = folder / "ca.crt", folder / "token"
    return Context(name, str(address), tls, server_name, ca if ca.exists() else None, token if token.exists() else None)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (folder, folder.parent, folder.parent.parent):
        each.chmod(0o700)


def _write(path: Path, content: bytes) -> None:
    """Replaces the file at once; nobody else can read it, not even while it is written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
