"""The methods of a gRPC service as functions on bytes, for servers that answer in different ways.

Must not know which server calls them, or what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc

T = TypeVar("T")

Answer: TypeAlias = Generator[Future[Any], None, T]
"""What a method returns: a generator that yields each future it waits for, before it reads that future's result; its
return value is the reply. A server resumes it when the future is done. ``future.cancel()`` means that the client no
longer waits for the reply; the generator is resumed all the same."""

UnaryMethod: TypeAlias = Callable[[bytes, Any], Answer[bytes]]
"""The second argument is the caller, as ``Methods.admit`` returns it."""
StreamingMethod: TypeAlias = Callable[[bytes, Any], Answer[Iterator[bytes]]]
"""One request, several replies."""
BidirectionalMethod: TypeAlias = Callable[[], UnaryMethod]
"""Called once for each stream; the result answers the stream's requests, one reply each."""
Admit: TypeAlias = Callable[[str, Any, Callable[[], str]], Answer[Any]]
"""Asked with the name of the method, the call's metadata and a function that says the peer, before the request is read.
Its value is the caller; it raises to refuse the call."""


def admit_all(_name: str, _metadata: Any, _peer: Callable[[], str]) -> Answer[Any]:
    """Every call is admitted, and nobody is asked who makes it."""
    yield from ()


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods of ``service`` (its full name) by their names within it.

    ``status_of(method, error)`` is the status a call ends with when its method, or ``admit``, raises ``error``.
    ``stopping`` is the status a bidirectional stream ends with when the server stops. ``stream(peer,
    caller)`` is entered while a call with a stream of messages is open; it raises to refuse it.
    """

    service: str
    unary: Mapping[str, UnaryMethod]
    streaming: Mapping[str, StreamingMethod]
    bidirectional: Mapping[str, BidirectionalMethod]
    status_of: Callable[[str, Exception], grpc.Status]
    stopping: grpc.Status
    admit: Admit = admit_all
    stream: Callable[[str, Any], AbstractContextManager[None]] | None = None
