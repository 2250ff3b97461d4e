"""Whether a server may listen where it is told to: away from loopback only with authentication and TLS.

The one place where that is decided, for every server. Must not know how callers are authenticated or encrypted.
"""

from __future__ import annotations

import structlog
from aisandbox_process import InvalidSetting, is_loopback
from aisandbox_process.tls import ServerFiles

log = structlog.get_logger(__name__)

_AUTHENTICATES_NOBODY = "callers are not authenticated (AUTH is off)"
_ENCRYPTS_NOTHING = "nothing is encrypted (no TLS_CERT_FILE)"


def check_exposure(host: str, *, authenticates: bool, tls: ServerFiles | None, insecure: bool, variable: str) -> None:
    """Returns if a server may listen on ``host``, and warns where others may listen or call.

    ``authenticates``: it authenticates every caller; certificates of clients do so too. ``tls``: None for no TLS.
    ``insecure``: an administrator has allowed it to do without either. ``variable``: the setting of ``host``. Raises
    InvalidSetting.
    """
    lacks = [] if authenticates or (tls is not None and tls.client_ca is not None) else [_AUTHENTICATES_NOBODY]
    lacks += [] if tls is not None else [_ENCRYPTS_NOTHING]
    if is_loopback(host) or not lacks:
        return
    if not insecure:
        raise InvalidSetting(
            variable,
            f"{host} can be reached from other machines, and {' and '.join(lacks)}: set what is missing, listen on "
            "127.0.0.1, or set INSECURE=true (--insecure) if everything that reaches this address may be trusted",
        )
    log.warning("INSECURE: " + " and ".join(lacks), listens_on=host)
