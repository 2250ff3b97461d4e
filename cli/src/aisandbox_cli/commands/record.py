"""``aisandbox record``: plays episodes and keeps them, for runs that learn from them first.

Owns who plays: chance, a function of Python, a policy that the service has, or recordings of the C# package. Must not
know the contract of simulators nor the files, which :mod:`aisandbox_environment` implements.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from aisandbox_process import log
from aisandbox_process.tls import InvalidChannelSecurity

from aisandbox_cli import options
from aisandbox_cli.errors import Failed, Unavailable, UsageError
from aisandbox_cli.interrupts import interrupts_held
from aisandbox_cli.program import WITH_TRAINER, command, find_modules_here
from aisandbox_cli.rendering import number
from aisandbox_cli.served_policy import ServedPolicy
from aisandbox_cli.service_address import checked_address, service_address

if TYPE_CHECKING:
    from aisandbox_environment import (
        DemonstrationWriter,
        Episode,
        EpisodeRecording,
        Policy,
        SimulatorSession,
        Spec,
        WrittenFile,
    )

RANDOM = "random"
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
    looked for in the current folder too. Ctrl-C keeps the episodes that are
    complete.

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
    recordings = _recordings(replay) if replay else []
    settings = options.json_pairs(environment_option or [], "--environment-option")
    if recordings:
        settings = dict(recordings[0].options)
    player = _policy(policy, run, model, address)
    about = {
        "environment": gymnasium or pool or simulator or "",
        "policy": f"recordings {replay}" if replay else f"run {run}" if run else policy or RANDOM,
    }
    try:
        with (
            _session(simulator, pool, gymnasium, settings, timeout, address) as session,
            _played(session, player, recordings, (episodes or EPISODES, seed or 0, max_steps or 0)) as played,
        ):
            with _writes(out):
                writer = DemonstrationWriter(out, session.spec, about)
            try:
                _keep(played, writer, len(recordings) or episodes or EPISODES, quiet=as_json)
                with _writes(out), interrupts_held(raise_after=False):
                    written = writer.close()
            except BaseException:
                writer.discard()
                raise
    except SimulatorUnreachable as error:
        raise Unavailable(f"no simulator answers at {error.address}; start it first", f"It {error.message}") from error
    except (SimulatorError, WireError, InvalidRecording) as error:
        raise Failed(str(error)) from error
    except InvalidChannelSecurity as error:
        raise UsageError(str(error)) from error
    _print(written, as_json=as_json)


def _keep(played: Iterator[Episode], writer: DemonstrationWriter, episodes: int, *, quiet: bool) -> None:
    """Adds the episodes as they are played; Ctrl-C ends it after one at least."""
    try:
        for number_of, episode in enumerate(played, 1):
            with _writes(writer.path), interrupts_held():
                writer.add(episode)
            if not quiet:
                returned = number(float(episode.rewards.sum(dtype="float64")))
                print(f"episode {number_of}/{episodes}: {episode.steps} steps, return {returned}", flush=True)
    except KeyboardInterrupt:
        if not writer.episodes:
            print("\nStopped before the first episode was complete: nothing is kept.", file=sys.stderr)
            raise typer.Exit(130) from None
        print(f"\nStopped; {writer.episodes} episodes are kept.", file=sys.stderr)


@contextmanager
def _played(
    session: SimulatorSession,
    player: Callable[[Spec, int], AbstractContextManager[Policy]],
    recordings: Sequence[EpisodeRecording],
    asked: tuple[int, int, int],
) -> Iterator[Iterator[Episode]]:
    """The episodes of ``recordings``, or those that ``player`` plays (number, seed and limit of steps in ``asked``)."""
    from aisandbox_environment import record_episodes, replay_episodes

    if recordings:
        yield replay_episodes(session, recordings)
        return
    episodes, seed, max_steps = asked
    with player(session.spec, seed) as policy:
        yield record_episodes(session, policy, episodes, seed, max_steps)


def _recordings(path: Path) -> list[EpisodeRecording]:
    """What is played again. Raises UsageError."""
    from aisandbox_environment import InvalidRecording, read_recordings

    try:
        return read_recordings(path)
    except InvalidRecording as error:
        raise UsageError(f"--replay: {error}") from error
    except OSError as error:
        raise UsageError(f"--replay {path}: {error.strerror or error}") from error


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


def _policy(policy: str, run: str, model: str, address: str | None) -> Callable[[Spec, int], Any]:
    """What makes the policy, as a context manager, for a spec and a seed. Raises UsageError."""
    if run:
        return lambda spec, seed: ServedPolicy.connected(address, run, model, spec)
    if policy in ("", RANDOM):
        return _random
    found = _function(policy)

    @contextmanager
    def of_module(spec: Spec, seed: int) -> Iterator[Policy]:
        yield found

    return of_module


@contextmanager
def _random(spec: Spec, seed: int) -> Iterator[Policy]:
    from aisandbox_environment import RandomPolicy

    yield RandomPolicy(spec, seed)


def _function(name: str) -> Any:
    """The function of MODULE:FUNCTION, whose module may be in the current folder. Raises UsageError."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"--policy {name}: must be {RANDOM} or MODULE:FUNCTION, as heuristics:drive")
    find_modules_here()
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UsageError(f"--policy {name}: there is no module {error.name!r} here") from error
    except AttributeError as error:
        raise UsageError(f"--policy {name}: {error}") from error
    if not callable(found):
        raise UsageError(f"--policy {name}: is not a function")
    return found


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
