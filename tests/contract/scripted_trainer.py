"""A trainer that learns nothing and does what the run's kwargs say, for tests of whoever starts trainers.

    python scripted_trainer.py run

or forked by a fork server that has loaded this module (``check``, ``run_forked``).

``environment.gymnasium.kwargs``: ``script`` is a list with a word for each attempt, the last one for all further ones:

    train       ten steps every ``tick`` seconds until total_timesteps, then done
    crash       twenty steps, then an exception
    kill        twenty steps, then SIGKILL
    permanent   fails for good     retryable   fails for now
    stubborn    trains and ignores SIGTERM
    terminate   stops itself by SIGTERM after twenty steps
"""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import training_progress_pb2 as pb
from aisandbox.v1.training_progress_pb2_grpc import TrainingProgressServiceStub
from aisandbox_crds.spec import GymnasiumEnvironment
from aisandbox_crds.status_values import Artifact, Failure
from aisandbox_crds.trainer_exit import ExitCode, TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import Published, RunStore

STEPS = 10
LOADED_IN = os.getpid()


class Trainer:
    def __init__(self, start: TrainerStart) -> None:
        self.start = start
        kwargs = start.spec.environment.kwargs if isinstance(start.spec.environment, GymnasiumEnvironment) else {}
        script = kwargs.get("script", ["train"])
        self.writer = (
            RunStore(start.models_dir, start.checkpoint_dir).run(start.run_id).claim(start.attempt, start.run_uid)
        )
        self.attempt = self.writer.attempt
        self.word = script[min(self.attempt, len(script)) - 1]
        self.tick = float(kwargs.get("tick", 0.01))
        self.stopped = threading.Event()
        self.timesteps = 0
        self.known: dict[str, Any] = {}
        self.stub = TrainingProgressServiceStub(grpc.insecure_channel(start.progress_address or "127.0.0.1:1"))

    def report(self, activity: Any) -> None:
        request = pb.ReportRequest(
            run_id=self.start.run_id,
            attempt=self.attempt,
            timesteps=self.timesteps,
            fps=STEPS / self.tick,
            episode_reward_mean=float(self.timesteps),
            activity=activity,
            **self.known,
        )
        with contextlib.suppress(grpc.RpcError):
            self.stub.Report(request, timeout=2, metadata=(("authorization", f"Bearer {self.token()}"),))

    def token(self) -> str:
        file = self.start.progress_token_file
        return self.start.progress_token or (file.read_text() if file is not None else "")

    def save(self, final: bool = False) -> None:
        def write(folder: Path) -> None:
            (folder / "model.zip").write_bytes(b"zip of step %d" % self.timesteps)

        checkpoint = self.writer.publish_checkpoint(self.timesteps, write)
        model = self.writer.publish_model(self.timesteps, {"policy.onnx": b"policy of step %d" % self.timesteps})
        self.writer.point("latest", model)
        if final:
            self.writer.point("final", model)
            if self.start.spec.model_output_path:
                self.writer.prepare_output(checkpoint.path / "model.zip")
                request = pb.PublishOutputRequest(run_id=self.start.run_id, attempt=self.attempt)
                metadata = (("authorization", f"Bearer {self.token()}"),)
                self.stub.PublishOutput(request, timeout=30, wait_for_ready=True, metadata=metadata)
        self.known.update(latest_checkpoint=artifact(checkpoint), latest_model=artifact(model))

    def end(self, code: int, failure: Failure | None = None) -> int:
        path = self.start.termination_message_path
        if path is not None:
            published: dict[str, Any] = {
                name: Artifact(message.path, message.timesteps, message.digest) for name, message in self.known.items()
            }
            path.write_text(
                TerminationMessage(self.attempt, self.timesteps, exit_code=code, failure=failure, **published).to_json()
            )
        return code

    def run(self) -> int:
        print(f"attempt {self.attempt} does {self.word}", flush=True)
        self.report(pb.TRAINER_ACTIVITY_STARTING)
        if self.word == "permanent":
            return self.end(ExitCode.PERMANENT, Failure("UnsuitableSpace", "no attempt can succeed"))
        if self.word == "retryable":
            return self.end(ExitCode.RETRYABLE, Failure("SimulatorUnreachable", "no simulator answers at 127.0.0.1:1"))
        restored = self.writer.run.newest_checkpoint()
        if restored is not None:
            self.timesteps = restored.timesteps
            self.known.update(resumed_from=artifact(restored), latest_checkpoint=artifact(restored))
        return self.train(self.timesteps)

    def train(self, began: int) -> int:
        spec = self.start.spec
        every = spec.checkpoint_every_timesteps or 20
        while self.timesteps < spec.total_timesteps:
            if self.stopped.is_set() and self.word != "stubborn":
                self.save()
                self.report(pb.TRAINER_ACTIVITY_TRAINING)
                return self.end(ExitCode.CANCELLED)
            self.timesteps += STEPS
            if self.timesteps % every == 0:
                self.save()
            self.report(pb.TRAINER_ACTIVITY_TRAINING)
            if self.timesteps - began >= 2 * STEPS and self.word in ("crash", "kill", "terminate"):
                self.fall()
            time.sleep(self.tick)
        self.save(final=True)
        return self.end(ExitCode.DONE)

    def fall(self) -> None:
        if self.word == "crash":
            raise RuntimeError("the script says crash")
        os.kill(os.getpid(), signal.SIGKILL if self.word == "kill" else signal.SIGTERM)


def artifact(published: Published) -> pb.Artifact:
    return pb.Artifact(path=published.relative, timesteps=published.timesteps, digest=published.digest)


def main(environ: dict[str, str]) -> int:
    stop = handle_sigterm()  # first: a stop may come before anything is loaded
    return attempt(environ, stop, 0 if environ.get("STOP_WITH_PARENT") == "true" else None)


def handle_sigterm() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def attempt(environ: dict[str, str], stop: threading.Event, parent: int | None) -> int:
    if parent is not None:
        threading.Thread(target=stop_at_end_of, args=(parent,), daemon=True).start()
    trainer = Trainer(TrainerStart.from_environ(environ))
    trainer.stopped = stop
    return trainer.run()


def stop_at_end_of(descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def check(parent: int) -> int:
    """For the fork server: 0 if it has loaded this module."""
    return 0 if os.getppid() == LOADED_IN else 1


def run_forked(environ: dict[str, str], parent: int) -> int:
    """For the fork server: one attempt, stopped when ``parent`` reaches its end."""
    from aisandbox_process.fork_server import unblock_stop_signals

    stop = handle_sigterm()
    unblock_stop_signals()
    return attempt(environ, stop, parent)


if __name__ == "__main__":
    sys.exit(main(dict(os.environ)))
