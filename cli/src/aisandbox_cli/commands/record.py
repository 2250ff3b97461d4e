"""``aisandbox record``: plays episodes and keeps them, for runs that learn from them first.

Owns where they are played, and that complete episodes are kept whatever ends the recording. Must not know who plays
(:mod:`aisandbox_cli.players`), nor the contract of simulators and the files (:mod:`aisandbox_environment`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from aisandbox_process import log
from aisandbox_process.tls import InvalidChannelSecurity

from aisandbox_cli import options
from aisandbox_cli.errors import Failed, Unavailable, UsageError
from aisandbox_cli.interrupts import interrupts_held
from aisandbox_cli.players import (
    RANDOM,
    Asked,
    played_at_random,
    played_by_function,
    played_by_run,
    recordings_at,
    replayed,
)
from aisandbox_cli.program import WITH_TRAINER, command, find_modules_here
from aisandbox_cli.rendering import number
from aisandbox_cli.service_address import checked_address, service_address

if TYPE_CHECKING:
    from aisandbox_environment import DemonstrationWriter, Episode, SimulatorSession, WrittenFile

    from aisandbox_cli.players import Play

EPISODES = 10


def record(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The Parquet file to write.")],
    simulator: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", show_default=False, help="The HOST:PORT of the simulator.")
    ] = None,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Play in a simulator that is attached to this pool of the service.")
    ] = "",
    gymnasium: Annotated[
        str, typer.Option(metavar="ID", help="Play in the Gymnasium environment with this id, or MODULE:ID.")
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="Who plays: random, or MODULE:FUNCTION, called with each observation and its action mask (or None).",
            show_default=f"{RANDOM}, or that of --run",
        ),
    ] = "",
    run: Annotated[str, typer.Option(metavar="RUN", help="Play with the trained policy of this run.")] = "",
    model: options.Model = "",
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="Play recordings of C# again (EpisodeRecording.Save): a JSON file, or a folder of them.",
        ),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=f"{EPISODES}", help="Number of episodes.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**63,
            metavar="N",
            show_default="0",
            help="Seed of the first episode; each next one has one more.",
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", show_default="no limit", help="Truncate episodes that have not ended after N steps."
        ),
    ] = None,
    environment_option: options.EnvironmentOption = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="The timeout of each reply.")] = 60.0,
    as_json: options.Json = False,
    address: options.Address = None,
) -> None:
    """Record episodes as demonstrations, which `aisandbox train --demonstrations` learns from.

    A session is opened with the simulator, as a trainer does. FUNCTION gets an
    array, or of a Dict space a dict of arrays, and returns an action. Modules are
    looked for in the current folder too. Ctrl-C, or an error, keeps the episodes
    that are complete.

    \b
    Examples:
      aisandbox record 127.0.0.1:50061 --policy heuristics:drive -o drive.parquet
      aisandbox record --gymnasium CartPole-v1 --run RUN --episodes 50 -o pole.parquet
      aisandbox record --pool arena --policy joystick:action -o models/me.parquet
      aisandbox record 127.0.0.1:50061 --replay episodes -o drive.parquet
      aisandbox train ppo --simulator 127.0.0.1:50061 --demonstrations drive.parquet
    """  # noqa: D301 - \b keeps the lines apart
    given = {"ADDRESS": simulator, "--pool": pool, "--gymnasium": gymnasium}
    named = [option for option, value in given.items() if value]
    if len(named) != 1:
        raise UsageError(f"{' and '.join(named) or 'ADDRESS, --pool or --gymnasium'}: use exactly one of them")
    players = {"--policy": policy, "--run": run, "--replay": replay}
    if len(named := [option for option, value in players.items() if value]) > 1:
        raise UsageError(f"{' and '.join(named)}: use only one of them")
    asked = {
        "--episodes": episodes,
        "--seed": seed,
        "--max-steps": max_steps,
        "--environment-option": environment_option,
    }
    if replay and (named := [option for option, value in asked.items() if value not in (None, [])]):
        raise UsageError(f"{' and '.join(named)}: not with --replay; the recordings say it")
    if model and not run:
        raise UsageError("--model: only with --run")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.parent} does not exist")
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder, and must be the file to write")
    try:
        import pyarrow as pyarrow  # the error below names it, and not a module of another package
        from aisandbox_environment import DemonstrationWriter, InvalidRecording, SimulatorError, SimulatorUnreachable
        from aisandbox_wire import WireError
    except ModuleNotFoundError as error:
        raise Failed(f"{error.name} is not installed here", f"To install it, {WITH_TRAINER}.") from error
    log.configure("warning")
    recordings = recordings_at(replay) if replay else []
    settings = options.json_pairs(environment_option or [], "--environment-option")
    asked_for = Asked(episodes or EPISODES, seed or 0, max_steps or 0)
    if recordings:
        settings, play, count = dict(recordings[0].options), replayed(recordings), len(recordings)
    else:
        play, count = _play(policy, run, model, address, asked_for), asked_for.episodes
    about = {
        "environment": gymnasium or pool or simulator or "",
        "policy": f"recordings {replay}" if replay else f"run {run}" if run else policy or RANDOM,
    }
    try:
        with _session(simulator, pool, gymnasium, settings, timeout, address) as session:
            with _writes(out):
                writer = DemonstrationWriter(out, session.spec, about)
            written = _record(session, play, writer, count, quiet=as_json)
    except SimulatorUnreachable as error:
        raise Unavailable(f"no simulator answers at {error.address}; start it first", f"It {error.message}") from error
    except (SimulatorError, WireError, InvalidRecording) as error:
        raise Failed(str(error)) from error
    except InvalidChannelSecurity as error:
        raise UsageError(str(error)) from error
    _print(written, as_json=as_json)


def _play(policy: str, run: str, model: str, address: str | None, asked: Asked) -> Play:
    """Raises UsageError, Failed: there is no such function."""
    if run:
        return played_by_run(run, model, address, asked)
    return played_at_random(asked) if policy in ("", RANDOM) else played_by_function(policy, asked)


def _record(
    session: SimulatorSession, play: Play, writer: DemonstrationWriter, episodes: int, *, quiet: bool
) -> WrittenFile:
    """The file of the episodes that are complete, also when Ctrl-C or an error ends them; without one, no file."""
    try:
        with play(session) as played:
            _add(played, writer, episodes, quiet=quiet)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if not writer.episodes:
            writer.discard()
            if not interrupted:
                raise
            print("\nStopped before the first episode was complete: nothing is kept.", file=sys.stderr)
            raise typer.Exit(130) from None
        written = _close(writer)
        kept = "1 episode is" if written.episodes == 1 else f"{written.episodes} episodes are"
        print(f"\nStopped; {kept} kept.", file=sys.stderr)
        if interrupted:
            return written
        raise
    return _close(writer)


def _add(played: Iterator[Episode], writer: DemonstrationWriter, episodes: int, *, quiet: bool) -> None:
    """Adds the episodes as they are played."""
    for number_of, episode in enumerate(played, 1):
        with _writes(writer.path), interrupts_held():
            writer.add(episode)
        if not quiet:
            returned = number(float(episode.rewards.sum(dtype="float64")))
            print(f"episode {number_of}/{episodes}: {episode.steps} steps, return {returned}", flush=True)


def _close(writer: DemonstrationWriter) -> WrittenFile:
    with _writes(writer.path), interrupts_held(raise_after=False):
        return writer.close()


@contextmanager
def _writes(out: Path) -> Iterator[None]:
    """Raises Failed where the file cannot be written."""
    try:
        yield
    except OSError as error:
        raise Failed(f"--out {out}: {error.strerror or error}") from error


@contextmanager
def _session(
    simulator: str | None, pool: str, gymnasium: str, settings: dict[str, Any], timeout: float, address: str | None
) -> Iterator[SimulatorSession]:
    """A session with one environment. Raises SimulatorError, UsageError, Failed, OSError."""
    from aisandbox_environment import InvalidOptions, SimulatorSession, Timeouts, create_environment_server
    from aisandbox_wire import InvalidSpace

    timeouts = Timeouts(step=timeout, reset=2 * timeout)
    if pool:
        service = service_address(address)
        with SimulatorSession.connect(
            service.target, 1, settings, pool=pool, security=service.security, timeouts=timeouts
        ) as session:
            yield session
        return
    if simulator:
        with SimulatorSession.connect(checked_address(simulator), 1, settings, timeouts=timeouts) as session:
            yield session
        return
    find_modules_here()
    try:
        from aisandbox_environment import GymnasiumSimulation

        simulation = GymnasiumSimulation(gymnasium, settings)
    except ModuleNotFoundError as error:
        raise Failed(f"{error.name} is not installed here", f"To install it, {WITH_TRAINER}.") from error
    except (InvalidOptions, InvalidSpace) as error:
        raise UsageError(f"--gymnasium: {error}") from error
    with (
        create_environment_server(simulation) as server,
        SimulatorSession.connect(server.address, 1, timeouts=timeouts) as session,
    ):
        yield session


def _print(written: WrittenFile, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "path": str(written.path),
            "episodes": written.episodes,
            "steps": written.steps,
            "return_mean": written.return_mean,
            "digest": written.digest,
        }
        print(json.dumps(fields))
        return
    print(
        f"\n{written.path}: {written.episodes} episodes, {written.steps:,} steps, mean return "
        f"{number(written.return_mean)}\n{written.digest}\n\n"
        "To learn from it, the file must be in MODELS_DIR of the service, and is named by its path from there:\n"
        f"  {command(f'train ppo --demonstrations PATH-IN-MODELS_DIR/{written.path.name} ...')}"
    )
