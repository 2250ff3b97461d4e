"""A small issuer of OpenID Connect: discovery and keys over HTTP, in a thread, and tokens that it has signed.

Must not know what a service makes of a token.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

AUDIENCE = "aisandbox"


class Issuer:
    """Signs with ES256. ``answers``: how often its keys were read."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = 0
        self._keys: dict[str, Any] = {}
        self.renew("first")

    def renew(self, name: str) -> None:
        """From now on it signs with another key, and knows the former ones no more."""
        self._keys = {name: ec.generate_private_key(ec.SECP256R1())}

    def token(self, key: Any = None, algorithm: str = "ES256", **claims: Any) -> str:
        """A token of an hour for alice, with these claims; None leaves one out."""
        ((name, own),) = self._keys.items()
        now = time.time()
        all_claims = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600, **claims}
        given = {name: value for name, value in all_claims.items() if value is not None}
        signing: Any = None if algorithm == "none" else key or own
        return jwt.encode(given, signing, algorithm=algorithm, headers={"kid": name})

    def answer(self, path: str) -> dict[str, Any]:
        """What is at the path."""
        if "/.well-known/" in path:
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.answers += 1
        public = {name: jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()) for name, key in self._keys.items()}
        return {"keys": [{**json.loads(key), "kid": name, "use": "sig"} for name, key in public.items()]}


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, issuer: Issuer, *arguments: Any) -> None:
        self._issuer = issuer
        super().__init__(*arguments)

    def do_GET(self) -> None:
        data = json.dumps(self._issuer.answer(self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving_issuer() -> Iterator[Issuer]:
    """The issuer answers in the block."""
    issuer = Issuer()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, issuer)) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()
