"""Settings from environment variables: read by type, with a default, and refused with a message of one form.

An empty variable counts as unset. Must not know which variables there are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TypeAlias

LOG_LEVELS = ("debug", "info", "warning", "error")

Environ = Mapping[str, str]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidSetting(ValueError):
    """The environment variable ``variable`` breaks ``rule``."""

    def __init__(self, variable: str, rule: str) -> None:
        super().__init__(f"{variable}: {rule}")
        self.variable = variable
        self.rule = rule


def required(environ: Environ, name: str) -> str:
    """The text of a variable that has no default. Raises InvalidSetting."""
    text = environ.get(name, "")
    if not text:
        raise InvalidSetting(name, "must be set")
    return text


def whole_number(environ: Environ, name: str, default: int, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``. Raises InvalidSetting."""
    text = environ.get(name) or str(default)
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise InvalidSetting(name, f"must be a whole number from {low} to {high}, got {quoted(text)}")
    return number


def port(environ: Environ, name: str, default: int) -> int:
    """A TCP port; 0 means a free one. Raises InvalidSetting."""
    return whole_number(environ, name, default, 0, 65_535)


def networks(environ: Environ, name: str) -> tuple[Network, ...]:
    """Networks with commas; empty if the variable is not set. Raises InvalidSetting."""
    text = environ.get(name) or ""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",")) if text else ()
    except ValueError:
        raise InvalidSetting(name, f"must be networks as 10.0.0.0/8,fd00::/8, got {quoted(text)}") from None


def seconds(environ: Environ, name: str, default: float, most: int = 86_400) -> float:
    """Seconds from 0 to ``most``. Raises InvalidSetting."""
    text = environ.get(name) or str(default)
    number = _float(text)
    if not 0 <= number <= most:
        raise InvalidSetting(name, f"must be seconds, 0 to {most}, got {quoted(text)}")
    return number


def positive_number(environ: Environ, name: str, default: float) -> float:
    """A number above 0 and below 10^9. Raises InvalidSetting."""
    text = environ.get(name) or str(default)
    number = _float(text)
    if not 0 < number < 10**9:
        raise InvalidSetting(name, f"must be a number above 0 and below 10^9, got {quoted(text)}")
    return number


def choice(environ: Environ, name: str, default: str, allowed: Sequence[str]) -> str:
    """One of ``allowed``, as it is written there; case does not matter. Raises InvalidSetting."""
    text = environ.get(name) or default
    for known in allowed:
        if text.lower() == known.lower():
            return known
    raise InvalidSetting(name, f"must be one of {', '.join(allowed)}, got {quoted(text)}")


def switch(environ: Environ, name: str, *, default: bool) -> bool:
    """Whether a variable that is on or off is on. Raises InvalidSetting."""
    return choice(environ, name, "on" if default else "off", ("on", "off")) == "on"


def log_level(environ: Environ, default: str) -> str:
    """LOG_LEVEL, for :func:`aisandbox_process.log.configure`. Raises InvalidSetting."""
    return choice(environ, "LOG_LEVEL", default, LOG_LEVELS)


def quoted(text: str) -> str:
    """The text as a message shows it: quoted, at most 80 characters."""
    return repr(text[:80])


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
