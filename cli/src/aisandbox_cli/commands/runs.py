"""``aisandbox runs``, ``status``, ``watch``, ``cancel``, ``suspend``, ``resume``: list and control existing runs.

Must not know how a run is started or stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from aisandbox.v1 import policy_trainer_pb2 as pb

from aisandbox_cli import options
from aisandbox_cli.connection import CALL_TIMEOUT, Connection, connect
from aisandbox_cli.program import command
from aisandbox_cli.progress import show_until_done
from aisandbox_cli.rendering import RUN_COLUMNS, details, message_json, plain_table, run_row, status_line, two_columns

PAGE_SIZE = 100


class Phase(StrEnum):
    """The values of --phase."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


PHASES = f"{', '.join(list(Phase)[:-1])} or {list(Phase)[-1]}"


def runs(
    experiment: Annotated[str, typer.Option(metavar="NAME", help="List only runs of this experiment.")] = "",
    phase: Annotated[
        list[Phase] | None,
        typer.Option(
            case_sensitive=False, metavar="PHASE", help=f"List only runs in this phase: {PHASES}; repeatable."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="The maximum number of runs.")] = 50,
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """List the runs, newest first.

    \b
    Examples:
      aisandbox runs --phase running --phase pending
      aisandbox runs --experiment ppo-cartpole-v1 --json | jq -r .runId
    """  # noqa: D301 - \b keeps the lines apart
    phases = [pb.Phase.Value(f"PHASE_{item.name}") for item in phase or []]
    with connect(address) as service:
        found = list(_pages(service, experiment, phases, limit))
    if as_json:
        for status in found:
            print(message_json(status))
    elif not found:
        print(f"No runs found. Start one with `{command('train')}`.", file=sys.stderr)
    else:
        _print_table(found)


def status(run: options.Run, as_json: options.Json = False, address: options.Address = None) -> None:
    """Show the current status of a run."""
    with connect(address) as service:
        response = service.stub.GetTrainingStatus(pb.StatusRequest(run_id=run), timeout=CALL_TIMEOUT)
    print(message_json(response) if as_json else two_columns(details(response)))


def watch(run: options.Run, as_json: options.Json = False, address: options.Address = None) -> None:
    """Show the progress of a run until it is done; exit code 0 only if it succeeds.

    Continues when the service restarts. Ctrl-C stops watching, not the
    training. With --json each change is printed as one StatusResponse.
    """
    with connect(address) as service:
        raise typer.Exit(show_until_done(service, run, as_json=as_json))


def cancel(run: options.Runs, as_json: options.Json = False, address: options.Address = None) -> None:
    """Cancel runs. This is final; their checkpoints and models are kept."""

    def message(service: Connection, response: pb.StatusResponse) -> str:
        if response.is_done:
            return _line(service, response)
        return f"Cancelling {response.run_id}.  Watch it end:  {service.command(f'watch {response.run_id}')}"

    _each(run, address, as_json, _call("CancelTraining", pb.CancelTrainingRequest), message)


def suspend(run: options.Runs, as_json: options.Json = False, address: options.Address = None) -> None:
    """Save a checkpoint of runs and stop them until `resume`."""

    def message(service: Connection, response: pb.StatusResponse) -> str:
        if response.phase == pb.PHASE_SUSPENDED or response.is_done:
            return _line(service, response)
        return f"Suspending {response.run_id}.  Check its status:  {service.command(f'status {response.run_id}')}"

    _each(run, address, as_json, _call("SuspendTraining", pb.SuspendTrainingRequest), message)


def resume(run: options.Runs, as_json: options.Json = False, address: options.Address = None) -> None:
    """Resume suspended runs from their newest checkpoint."""
    _each(run, address, as_json, _call("ResumeTraining", pb.ResumeTrainingRequest), _line)


Call = Callable[[Connection, str], pb.StatusResponse]
Message = Callable[[Connection, pb.StatusResponse], str]


def _call(method: str, request: type[Any]) -> Call:
    def call(service: Connection, run_id: str) -> pb.StatusResponse:
        response: pb.StatusResponse = getattr(service.stub, method)(request(run_id=run_id), timeout=CALL_TIMEOUT)
        return response

    return call


def _line(_service: Connection, response: pb.StatusResponse) -> str:
    return f"{response.run_id}  {status_line(response)}"


def _each(names: list[str], address: str | None, as_json: bool, call: Call, message: Message) -> None:
    with connect(address) as service:
        for name in names:
            response = call(service, name)
            print(message_json(response) if as_json else message(service, response), flush=True)


def _pages(
    service: Connection, experiment: str, phases: list[pb.Phase.ValueType], limit: int
) -> Iterator[pb.StatusResponse]:
    token = ""
    while limit > 0:
        page = service.stub.ListTrainingRuns(
            pb.ListTrainingRunsRequest(
                experiment_id=experiment, phases=phases, page_size=min(PAGE_SIZE, limit), page_token=token
            ),
            timeout=CALL_TIMEOUT,
        )
        yield from page.runs[:limit]
        limit -= len(page.runs)
        token = page.next_page_token
        if not token:
            return


def _print_table(found: list[pb.StatusResponse]) -> None:
    rows = [run_row(item, datetime.now(UTC)) for item in found]
    if not sys.stdout.isatty():
        print(plain_table(RUN_COLUMNS, rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*RUN_COLUMNS, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, style=PHASE_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


PHASE_STYLES = {"Succeeded": "green", "Failed": "red", "Running": "cyan", "Cancelled": "yellow", "Suspended": "yellow"}
