"""The other servers of the service: where the inference-servers and the replicas are, and how they are called.

Owns what INFERENCE_ADDRESS, REPLICAS_ADDRESS, TLS_CA_FILE and SERVICE_TOKEN_FILE mean, and the tasks that follow what
changes: pods, and the files of TLS. Must not know what is called.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial
from importlib.metadata import version

import structlog
from aisandbox_access import ServiceToken
from aisandbox_environment import Admit, RelayLimits, SimulatorRelay
from aisandbox_process import InvalidHostPort, InvalidSetting, is_loopback, join_host_port, split_host_port
from aisandbox_process.tls import ChannelSecurity, InvalidChannelSecurity

from aisandbox_api.backend import Backend, PodLister
from aisandbox_api.background_tasks import RepeatedTask
from aisandbox_api.endpoints import EndpointWatcher, parse_service_address
from aisandbox_api.errors import StartupError
from aisandbox_api.policy_forwarding import PolicyForwarder
from aisandbox_api.settings import Settings

log = structlog.get_logger()

RENEWAL_SECONDS = 5.0
"""Between two looks at the files of the channels."""


class Peers:
    """For one event loop. Raises InvalidSetting for files of TLS that cannot be used, and for tokens without TLS."""

    def __init__(self, settings: Settings, backend: Backend) -> None:
        _check_tokens(settings)
        self._settings = settings
        self._backend = backend
        self._token = ServiceToken(settings.access.service_token_file)
        self._tasks: list[EndpointWatcher | ChannelRenewal] = []
        try:
            self._security("").check()
        except InvalidChannelSecurity as error:
            raise InvalidSetting("TLS_CA_FILE", str(error)) from None

    def forwarder(self, address: str) -> PolicyForwarder:
        """What forwards calls to the inference-servers at ``address``. Raises StartupError."""
        follows = address.startswith("kubernetes:")
        security = self._security(address)
        forwarder = PolicyForwarder(address, follows=follows, security=security, token=self._token.metadata)
        self._tasks.append(ChannelRenewal(security, forwarder.connect_again, RENEWAL_SECONDS))
        if follows:
            self._follow("INFERENCE_ADDRESS", address, "inference-servers", forwarder.use)
        return forwarder

    def relay(self, admit: Admit | None) -> SimulatorRelay:
        """The relay of simulators, which asks the replicas. ``admit``: see create_server. Raises StartupError."""
        address = self._settings.replicas_address
        security = self._security(address or "")
        relay = SimulatorRelay(
            version=version("aisandbox-api"),
            limits=RelayLimits(simulators=self._settings.max_simulators),
            admit=admit,
            replica_security=security,
            replica_token=self._token.metadata,
        )
        self._tasks.append(ChannelRenewal(security, relay.replicas.connect_again, RENEWAL_SECONDS))
        if address is not None and address.startswith("kubernetes:"):
            self._follow("REPLICAS_ADDRESS", address, "api-servers", relay.replicas.use)
        elif address is not None:
            relay.replicas.use({_host_port(each) for each in address.split(",")})
        return relay

    async def start(self) -> None:
        """Follows what changes."""
        for task in self._tasks:
            await task.start()

    async def close(self) -> None:
        """Follows it no more."""
        for task in self._tasks:
            await task.close()

    def _security(self, address: str) -> ChannelSecurity:
        """Of the channels to ``address``.

        The pods of a Service are dialled by their addresses, and have a certificate for the Service's name. This
        service's own certificate is shown to those that ask for one.
        """
        settings = self._settings
        pods = parse_service_address(address)
        return ChannelSecurity(
            tls=settings.tls_ca_file is not None,
            ca_file=settings.tls_ca_file,
            server_name="" if pods is None else f"{pods.service}.{settings.pod_namespace}.svc",
            certificate_file=None if settings.tls is None else settings.tls.certificate,
            key_file=None if settings.tls is None else settings.tls.key,
        )

    def _follow(self, variable: str, address: str, what: str, use: Callable[[Set[str]], None]) -> None:
        """Calls ``use`` with the addresses of the pods, from the start of the service on."""
        pods = parse_service_address(address)
        if pods is None:
            raise StartupError(f"{variable} {address}: must be host:port or kubernetes:///SERVICE:PORT")
        if not isinstance(self._backend, PodLister):
            raise StartupError(f"{variable} {address}: only with BACKEND kubernetes")
        read = partial(self._backend.list_service_pods, pods.service, pods.port)
        self._tasks.append(EndpointWatcher(read, use, what=what))


class ChannelRenewal:
    """Calls ``connect_again`` when the files of ``security`` have been replaced."""

    def __init__(self, security: ChannelSecurity, connect_again: Callable[[], None], seconds: float) -> None:
        self._security = security
        self._connect_again = connect_again
        self._version = security.version()
        self._looks = RepeatedTask(self._look, lambda: seconds, "channel-renewal")

    async def start(self) -> None:
        """Looks from now on."""
        await self._looks.start()

    async def close(self) -> None:
        """Looks no more."""
        await self._looks.close()

    async def _look(self) -> None:
        files = self._security.version()
        if files == self._version:
            return
        self._version = files
        try:
            self._connect_again()
        except InvalidChannelSecurity as error:
            log.warning("replaced files of TLS cannot be used, the former connections still are", problem=str(error))


def _host_port(text: str) -> str:
    try:
        return join_host_port(*split_host_port(text.strip()))
    except InvalidHostPort as error:
        raise StartupError(f"REPLICAS_ADDRESS {text.strip()[:80]!r} {error.problem}: must be host:port") from None


def _check_tokens(settings: Settings) -> None:
    """Calls to the others carry the clients' tokens or the service's own. Raises InvalidSetting."""
    access = settings.access
    asks = access.auth != "off"
    if asks and settings.replicas_address is not None and access.service_token_file is None:
        raise InvalidSetting(
            "SERVICE_TOKEN_FILE",
            "must be set where REPLICAS_ADDRESS and AUTH are: replicas authenticate each other (in a pod with "
            "AUTH=kubernetes: /var/run/secrets/kubernetes.io/serviceaccount/token)",
        )
    if settings.tls_ca_file is not None or access.insecure or not (asks or access.service_token_file):
        return
    for variable in ("inference_address", "replicas_address"):
        address = getattr(settings, variable)
        if address is not None and not all(_is_here(each) for each in address.split(",")):
            raise InvalidSetting(
                "TLS_CA_FILE",
                f"must be set where {variable.upper()} {address[:80]!r} is on other machines and AUTH or "
                "SERVICE_TOKEN_FILE is set: tokens would be sent there in plain text (INSECURE=true allows it)",
            )


def _is_here(address: str) -> bool:
    """Whether a server is on this machine, by its address as gRPC understands it."""
    text = address.strip()
    if text.startswith(("unix:", "unix-abstract:")):
        return True
    try:
        return is_loopback(split_host_port(text.removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:"))[0])
    except InvalidHostPort:
        return False
