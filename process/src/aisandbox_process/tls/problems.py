"""What a failed connection means, in a sentence for whoever configures it.

Must not know settings of any program; :func:`speaks_tls` connects, the rest does not.
"""

from __future__ import annotations

import socket
import ssl

_OF_TLS = {
    "WRONG_VERSION_NUMBER": "what listens there does not use TLS: leave out https:// and the CA file",
    "Hostname Verification Check failed": "its certificate is for another name than {name}; name the right one",
    "certificate has expired": "its certificate has expired",
    "certificate is not yet valid": "its certificate is not valid yet; is this machine's clock right?",
    "unable to get local issuer certificate": "its certificate is signed by an authority that is not in {authorities}",
    "self signed certificate": "its certificate is signed by an authority that is not in {authorities}",
    "self-signed certificate": "its certificate is signed by an authority that is not in {authorities}",
    "CERTIFICATE_REQUIRED": "it asks for a certificate of the client",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not accept the client's certificate",
}
"""By what gRPC's core and BoringSSL write into the message of the status."""


def connection_problem(details: str, *, name: str, ca_file: str) -> str:
    """Why TLS failed, by the ``details`` of a call's status; empty if they say nothing of TLS.

    ``name``: that the certificate must be for. ``ca_file``: empty for the authorities that the machine trusts.
    """
    authorities = ca_file or "the list of those that this machine trusts"
    for text, sentence in _OF_TLS.items():
        if text in details:
            return sentence.format(name=name, authorities=authorities)
    return ""


def speaks_tls(host: str, port: int, timeout: float = 5.0) -> bool:
    """Whether what listens there answers a handshake of TLS; its certificate is not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        # An alert is an answer: of a server that asks for a client's certificate, say.
        return "ALERT" in str(error.reason)
    except OSError:
        return False
