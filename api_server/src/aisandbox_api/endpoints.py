"""Which servers calls are passed on to, where Kubernetes says it: inference-servers, the other api-servers.

Owns the form ``kubernetes:///SERVICE:PORT`` of INFERENCE_ADDRESS and REPLICAS_ADDRESS, and the task that follows the
pods of that Service. Must not know gRPC.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass

import structlog

from aisandbox_api.background_tasks import RepeatedTask
from aisandbox_api.errors import ApiError

log = structlog.get_logger()

FOLLOW_SECONDS = 1.0
"""Between two looks. A pod that ends serves for some seconds more (its preStop hook)."""
_ADDRESS = re.compile(r"kubernetes:///([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?):([A-Za-z0-9-]{1,15})")


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """The ready pods of a Service of the own namespace, at one of their ports, by its name or number."""

    service: str
    port: str


def parse_service_address(address: str) -> ServiceAddress | None:
    """What an address of this form means; None for another form."""
    match = _ADDRESS.fullmatch(address)
    return ServiceAddress(match[1], match[3]) if match else None


class EndpointWatcher:
    """Calls ``use`` with the addresses whenever ``read`` returns others than before. For one event loop.

    ``what``: the servers, for the log.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Set[str]]],
        use: Callable[[Set[str]], None],
        seconds: float = FOLLOW_SECONDS,
        what: str = "inference-servers",
    ) -> None:
        self._read = read
        self._use = use
        self._what = what
        self._problem = ""
        self._used: Set[str] | None = None
        self._looks = RepeatedTask(self._look, lambda: seconds, f"follow-{what}")

    async def start(self) -> None:
        """Reads once, then again and again in the background."""
        await self._looks.start()

    async def close(self) -> None:
        """Stops reading."""
        await self._looks.close()

    async def _look(self) -> None:
        """What cannot be read or used leaves the addresses as they are, and is tried again."""
        try:
            addresses = await self._read()
            if addresses != self._used:
                log.info(f"{self._what} have changed", addresses=sorted(addresses))
                self._use(addresses)
                self._used = addresses
        except ApiError as error:
            self._note(str(error))
            return
        except Exception as error:  # one answer that cannot be read must not end this for ever
            self._note(f"{type(error).__name__} {error}")
            return
        self._problem = ""

    def _note(self, problem: str) -> None:
        """Logs a problem once while it lasts."""
        if problem != self._problem:
            log.warning(f"{self._what} cannot be followed", why=problem[:300])
        self._problem = problem
