"""``aisandbox model``: describes a policy, or downloads it as one ONNX file.

Owns the file that is written. Must not know how a policy is exported.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli import options
from aisandbox_cli.connection import CALL_TIMEOUT, Connection, connect
from aisandbox_cli.errors import CliError, Failed
from aisandbox_cli.rendering import algorithm_name, message_json, space_text, two_columns

# Seconds the download of the file may take.
DOWNLOAD_TIMEOUT = 300.0


def model(
    run: options.Run,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Download the policy to this file, in ONNX format."),
    ] = None,
    selector: options.Model = "",
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """Describe the policy of a run; with -o also download it as an ONNX file.

    The file does not need this service: an ONNX runtime in any language can
    run it. Its size and digest are checked before it is written.

    \b
    Examples:
      aisandbox model RUN
      aisandbox model RUN --model best -o policy.onnx
    """  # noqa: D301 - \b keeps the lines apart
    with connect(address, model_of=run) as service:
        if output is None:
            request = pb.DescribeModelRequest(run_id=run, model=selector)
            description = service.stub.DescribeModel(request, timeout=CALL_TIMEOUT)
        else:
            description = _download(service, pb.GetModelRequest(run_id=run, model=selector), output)
    if as_json:
        print(message_json(description))
        return
    print(two_columns(_rows(description)))
    if output is not None:
        print(f"\nWrote {output} ({output.stat().st_size:,} bytes, digest verified).", file=sys.stderr)


def _download(service: Connection, request: pb.GetModelRequest, output: Path) -> pb.DescribeModelResponse:
    if output.is_dir():
        raise CliError(f"{output} is a folder; give a file name, for example {output / 'policy.onnx'}")
    description, data = join_parts(service.stub.GetModel(request, timeout=DOWNLOAD_TIMEOUT))
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CliError(f"cannot write {output}: {error.strerror or error}") from error
    return description


def join_parts(parts: Iterable[pb.GetModelResponse]) -> tuple[pb.DescribeModelResponse, bytes]:
    """The description and the file contents of a GetModel stream.

    Raises:
        Failed: the stream is empty, or size or digest differ from those announced in its first message.
    """
    received = list(parts)
    if not received:
        raise Failed("the service sent no model")
    first, data = received[0], b"".join(part.part for part in received)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if len(data) != first.size or digest != first.file_digest:
        raise Failed(
            f"the download is damaged: {len(data)} bytes, {digest}; expected {first.size} bytes, {first.file_digest}",
            "No file was written; try again.",
        )
    return first.description, data


def _rows(description: pb.DescribeModelResponse) -> list[tuple[str, str]]:
    rows = [
        ("run", description.run_id),
        ("model", description.model),
        ("timesteps", f"{description.model_timesteps:,}"),
        ("algorithm", algorithm_name(description.algorithm)),
        ("observation", space_text(description.observation_space)),
        ("action", space_text(description.action_space)),
        ("frame stack", str(description.frame_stack) if description.frame_stack > 1 else ""),
        ("normalisation", "of observations, inside the ONNX file" if description.normalized_observations else ""),
        ("exported with", ", ".join(f"{name} {version}" for name, version in sorted(description.versions.items()))),
    ]
    return [(name, value) for name, value in rows if value]
