"""The service as a trainer reaches it: where it is, how the channel is secured, and how a call says whose it is.

Must not know what is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aisandbox_crds import TrainerStart
from aisandbox_environment import RUN_METADATA
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity, read_token

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Service:
    """``address``: host:port. ``socket``: a Unix socket for sessions, where the service is on this machine.

    ``token`` or, where it is renewed, ``token_file``: that of this trainer for its run.
    Unlike the token of a person it is sent in plain text too, where the service has no TLS.
    """

    address: str
    run_id: str
    security: ChannelSecurity = PLAINTEXT
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    socket: Path | None = None

    @classmethod
    def of(cls, start: TrainerStart) -> Service | None:
        """That of a trainer which is started so; None: it knows none."""
        if start.progress_address is None:
            return None
        return cls(
            start.progress_address,
            start.run_id,
            ChannelSecurity.with_ca(start.progress_ca_file),
            start.progress_token or "",
            start.progress_token_file,
            start.session_socket,
        )

    def credential(self) -> Metadata:
        """The token as metadata of a call; its file is read each time. Raises InvalidChannelSecurity."""
        token = self.token if self.token_file is None else read_token(self.token_file)
        return (("authorization", f"Bearer {token}"),) if token else ()

    def metadata(self) -> Metadata:
        """What calls that are no reports carry: the token, and the run that it belongs to.

        Raises InvalidChannelSecurity.
        """
        return (*self.credential(), (RUN_METADATA, self.run_id))
