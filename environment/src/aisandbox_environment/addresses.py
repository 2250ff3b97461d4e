"""Addresses of simulators: the list that a run's text stands for, and how environments are distributed over it.

Must not know sessions.
"""

from __future__ import annotations

import socket

from aisandbox_process.addresses import InvalidHostPort, join_host_port, split_host_port

from aisandbox_environment.errors import InvalidAddress, SimulatorUnreachable

_DNS = "dns:///"


def expand_addresses(text: str) -> list[str]:
    """The addresses, ``host:port`` each, that ``text`` stands for.

    ``text`` is ``host:port``, or ``dns:///host:port`` for every address that the name resolves to (a headless service),
    or several of these separated by commas. The records of a name are sorted, so that two trainers see them in the
    same order; the entries of a list keep their order; duplicates are removed.

    Raises InvalidAddress for text that is none of these, SimulatorUnreachable if a name does not resolve.
    """
    found: list[str] = []
    for part in text.split(","):
        entry = part.strip()
        if entry.startswith(_DNS):
            found.extend(_records(text, entry))
        else:
            _split(text, entry, entry)
            found.append(entry)
    return list(dict.fromkeys(found))


def distribute_environments(environments: int, addresses: int) -> list[int]:
    """How many of ``environments`` each of ``addresses`` gets: at least one each, and no two differ by more than one.

    Raises ValueError if there are fewer environments than addresses.
    """
    if addresses < 1 or environments < addresses:
        raise ValueError(
            f"{environments} environments cannot be distributed over {addresses} addresses: each gets one or more"
        )
    each, more = divmod(environments, addresses)
    return [each + (i < more) for i in range(addresses)]


def _records(text: str, entry: str) -> list[str]:
    host, port = _split(text, entry, entry.removeprefix(_DNS))
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SimulatorUnreachable(entry, f"the name {host!r} does not resolve: {error}") from None
    return [join_host_port(host, port) for host in sorted({str(info[4][0]) for info in infos})]


def _split(text: str, entry: str, target: str) -> tuple[str, int]:
    try:
        return split_host_port(target)
    except InvalidHostPort as error:
        hint = "use host:port, a list with commas, or dns:///host:port"
        raise InvalidAddress(text, f"{entry!r} {error.problem}: {hint}") from None
