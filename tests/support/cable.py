"""A cable between a client and a server that a test can cut: a TCP forwarder on a port of its own."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Cable:
    """Forwards 127.0.0.1::attr:`port` to ``host:port``. Cut, it breaks connections and takes no new one."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._whole = threading.Event()
        self._whole.set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self._closed = True
        self._whole.clear()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._whole.is_set():
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()
            else:
                client.close()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            while self._whole.is_set():
                ready, _, _ = select.select([client, server], [], [], 0.1)
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    (server if one is client else client).sendall(data)
