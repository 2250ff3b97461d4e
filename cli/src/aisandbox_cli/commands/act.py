"""``aisandbox act``: asks a trained policy for actions.

Owns how observations are parsed and actions are printed. Must not know how a policy is served.
"""

from __future__ import annotations

import base64
import json
import queue
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import grpc
import typer
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli import options
from aisandbox_cli.connection import CALL_TIMEOUT, Connection, connect
from aisandbox_cli.errors import Failed, UsageError
from aisandbox_cli.rendering import message_json, numbers_line


def act(
    run: options.Run,
    observation: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NUMBER...]",
            help="The observation: numbers, or one JSON array. If omitted, observations are read from stdin.",
        ),
    ] = None,
    model: options.Model = "",
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="Sample actions instead of taking the most likely one.")
    ] = False,
    state: Annotated[
        str,
        typer.Option(
            metavar="BASE64",
            help="Recurrent policies: the `state` that the previous call printed with --json. Without it, the "
            "observation is the first of an episode.",
        ),
    ] = "",
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """Ask the policy of a run for the action for an observation.

    Without numbers, each line of stdin is an observation (numbers or a JSON
    array) and each line of stdout is its action. All of them use one gRPC
    stream. A refused line gives an empty line and, at the end, exit code 1.
    A recurrent policy remembers the lines before; after an empty line, a
    new episode begins.

    \b
    Examples:
      aisandbox act RUN 0.01 -0.02 0.03 0.04
      aisandbox act RUN "[0.01, -0.02, 0.03, 0.04]" --model best --json
      my-simulator | aisandbox act RUN > actions.txt
    """  # noqa: D301 - \b keeps the lines apart
    if observation:
        request = pb.ActRequest(
            run_id=run,
            observation=numbers(observation, "observation"),
            model=model,
            stochastic=stochastic,
            state=_decoded(state),
            episode_start=not state,
        )
        with connect(address, model_of=run) as service:
            response = service.stub.Act(request, timeout=CALL_TIMEOUT)
        print(_text(response, as_json))
        return
    if state:
        raise UsageError("--state: goes with the one observation of the command, not with those of stdin")
    if sys.stdin.isatty():
        print("Reading observations from the terminal, one per line; Ctrl-D ends the input.", file=sys.stderr)
    first = pb.ActRequest(run_id=run, model=model, stochastic=stochastic, episode_start=True)
    with connect(address, model_of=run) as service:
        raise typer.Exit(_stream(service, first, sys.stdin, as_json))


def _decoded(state: str) -> bytes:
    try:
        return base64.b64decode(state, validate=True)
    except ValueError:
        raise UsageError("--state: is not base64; give the state that --json has printed") from None


def numbers(words: Iterable[str], field: str) -> list[float]:
    """Parses ``0.1 -2``, ``0.1, -2`` or ``[[0.1], [-2]]`` (nested arrays in C order).

    Raises:
        UsageError: the text is something else.
    """
    text = " ".join(words).strip()
    if text.startswith("["):
        try:
            return list(_flat(json.loads(text)))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{field}: {text[:80]!r} is not a JSON array of numbers ({error})") from None
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            raise UsageError(f"{field}: {word!r} is not a number") from None
    return found


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    else:
        yield float(value)


def _stream(service: Connection, first: pb.ActRequest, lines: Iterable[str], as_json: bool) -> int:
    """Prints the action for each line before it reads the next one, so that a program on the pipe never waits."""
    requests: queue.SimpleQueue[pb.ActStreamRequest | None] = queue.SimpleQueue()
    replies = service.stub.ActStream(iter(requests.get, None))
    refused, request = 0, first
    try:
        for count, line in enumerate(lines, 1):
            if not line.strip():
                request.episode_start = True
                continue
            try:
                request.observation[:] = numbers([line], f"line {count}")
                requests.put(pb.ActStreamRequest(request=request))
                reply = next(replies)
                if reply.HasField("error"):
                    raise Failed(f"line {count}: {reply.error.message} ({_code_name(reply.error.code)})")
                print(_text(reply.response, as_json), flush=True)
                request = pb.ActRequest()  # the stream keeps run, model and stochastic of its first request
            except (UsageError, Failed) as error:
                refused += 1
                print(*error.lines(), sep="\n", file=sys.stderr)
                print("", flush=True)
    finally:
        requests.put(None)
    return 1 if refused else 0


def _code_name(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), str(number))


def _text(response: pb.ActResponse, as_json: bool) -> str:
    return message_json(response) if as_json else numbers_line(response.action)
