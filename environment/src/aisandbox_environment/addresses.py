"""Addresses of simulators: the list that a run's text stands for, and how environments are distributed over it.

Must not know sessions.
"""

from __future__ import annotations

import socket

from aisandbox_process import InvalidHostPort, join_host_port, split_host_port

from aisandbox_environment.errors import InvalidAddress, SimulatorUnreachable

_DNS = "dns:///"


def expand_addresses(text: str) -> list[str]:
    """The addresses, ``host:port`` each, that ``text`` stands for.

    ``text`` is ``host:port``, or ``dns:///host:port`` for every address that the name resolves to (a headless service),
    or several of these separated by commas. The records of a name are sorted, so that two trainers see them in the
    same order; the entries of a list keep their order; duplicates are removed. Where a name has IPv4 and IPv6 records,
    those of the family with more of them count, because a simulator may have one of each.

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


def single_address(text: str) -> str:
    """The one address that ``text`` stands for, without blanks around it; a name is not replaced by its address.

    Raises InvalidAddress if it is none, or several; SimulatorUnreachable if a name does not resolve.
    """
    if len(expand_addresses(text)) != 1:
        raise InvalidAddress(text, "exactly one address is needed, got several")
    return text.strip()


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
    of_family: dict[int, set[str]] = {}
    for family, _, _, _, address in infos:
        of_family.setdefault(family, set()).add(str(address[0]))
    # A simulator on a dual-stack network has a record of each family, and is one simulator all the same.
    most = max(len(records) for records in of_family.values())
    if most == 1 and len(of_family) > 1:
        return [join_host_port(host, port)]  # gRPC finds the one of its two addresses on which it listens
    families = [family for family, records in of_family.items() if len(records) == most]
    chosen = int(socket.AF_INET) if socket.AF_INET in families else families[0]
    return [join_host_port(record, port) for record in sorted(of_family[chosen])]


def _split(text: str, entry: str, target: str) -> tuple[str, int]:
    try:
        return split_host_port(target)
    except InvalidHostPort as error:
        hint = "use host:port, a list with commas, or dns:///host:port"
        raise InvalidAddress(text, f"{entry!r} {error.problem}: {hint}") from None
