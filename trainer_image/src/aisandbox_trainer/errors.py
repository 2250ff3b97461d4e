"""The errors that end an attempt at a run.

    TrainerError
    ├── StopRequested                SIGTERM: save and exit
    ├── UnusableFile                 a file to start from; CannotStartFrom names it
    ├── NotStorable                  episodes in progress; the checkpoint has none
    ├── PermanentError               no attempt can succeed
    │   ├── InvalidHyperparameter
    │   ├── UnsupportedSpace         an observation space that no policy of SB3 takes
    │   │   └── UnsupportedActionSpace  an action space that the algorithm cannot choose from
    │   ├── DryRunFailed             synthetic observations could not be trained on, for an unknown reason
    │   ├── UnknownEnvironment       a Gymnasium id that does not exist or cannot be made
    │   ├── SimulatorChanged         the simulator came back with other spaces
    │   ├── InvalidEnvironmentReply  an environment of this process that violates its own spaces
    │   ├── NonFiniteTraining        the policy's weights became NaN or infinite
    │   ├── CannotStartFrom          what the run starts from does not exist, is damaged or does not fit
    │   ├── InvalidDemonstrations    the file of demonstrations does not exist, is damaged or does not fit
    │   ├── NotEnoughMemory          the buffers and networks need more than the trainer may take
    │   ├── OutputRefused            the final model must not be written to model_output_path
    │   └── CannotExport             a policy that cannot be written as an ONNX file
    └── RetryableError               another attempt may succeed
        ├── OutputNotPublished       the service does not move the final model to model_output_path
        └── SimulatorGone            not available, or failing again and again
            └── SessionsTooShort     every session ended before one update

A simulator's own errors are those of :mod:`aisandbox_environment`; :mod:`aisandbox_trainer.run.exit_status` maps all of
them to exit codes. Each class carries the ``reason`` programs see.
"""

from __future__ import annotations

from typing import ClassVar

from aisandbox_crds import Reason


class TrainerError(Exception):
    """Base of the errors this package raises."""

    reason: ClassVar[str] = Reason.INTERNAL


class StopRequested(TrainerError):
    """SIGTERM was received; the attempt saves a checkpoint and ends."""


class UnusableFile(TrainerError):
    """A file with what another run or a user has trained is not what it should be; the text says why."""


class NotStorable(TrainerError):
    """The episodes in progress cannot be stored, or not restored; the text says why. They begin again."""


class PermanentError(TrainerError):
    """No attempt at this run can succeed."""


class InvalidHyperparameter(PermanentError):
    """A hyperparameter that stable-baselines3 refuses in combination with the others or with the environment."""

    reason = Reason.INVALID_HYPERPARAMETER


class UnsupportedSpace(PermanentError):
    """A space the algorithm or the policy cannot take; ``reason`` tells observations from actions."""

    reason = Reason.UNSUPPORTED_OBSERVATION_SPACE


class UnsupportedActionSpace(UnsupportedSpace):
    """An action space the algorithm cannot choose from."""

    reason = Reason.UNSUPPORTED_ACTION_SPACE


class DryRunFailed(PermanentError):
    """Training on synthetic observations failed with an error of an unknown kind; the message names the spaces."""

    reason = Reason.CANNOT_TRAIN


class UnknownEnvironment(PermanentError):
    """Gymnasium has no such environment, or cannot make it with these arguments."""

    reason = Reason.UNKNOWN_ENVIRONMENT


class SimulatorChanged(PermanentError):
    """The simulator declares other spaces than when the run began."""

    reason = Reason.SIMULATOR_PROTOCOL


class InvalidEnvironmentReply(PermanentError):
    """An environment in this process returned a NaN or an infinity."""

    reason = Reason.SIMULATOR_INVALID_REPLY


class NonFiniteTraining(PermanentError):
    """An update left weights that are NaN or infinite."""

    reason = Reason.NON_FINITE_TRAINING


class CannotStartFrom(PermanentError):
    """What the run is to start from does not exist, is damaged, or does not fit it; the message names both."""

    reason = Reason.CANNOT_START_FROM


class InvalidDemonstrations(PermanentError):
    """The file that the policy is to learn from does not exist, is damaged, or does not fit; the message says why."""

    reason = Reason.INVALID_DEMONSTRATIONS


class NotEnoughMemory(PermanentError):
    """The buffers and the networks of the run need more memory than its trainer may take."""

    reason = Reason.OUT_OF_MEMORY


class OutputRefused(PermanentError):
    """The service does not write the final model to the run's model_output_path; the message says why."""

    reason = Reason.INVALID_OUTPUT_PATH


class CannotExport(PermanentError):
    """The policy, its normalisation or its spaces cannot be written as an ONNX file."""

    reason = Reason.CANNOT_EXPORT


class RetryableError(TrainerError):
    """Another attempt may succeed."""


class OutputNotPublished(RetryableError):
    """The service did not move the final model to the run's model_output_path for as long as it is asked."""


class SimulatorGone(RetryableError):
    """The simulator was not available for as long as it is retried, or keeps failing."""

    reason = Reason.SIMULATOR_UNREACHABLE


class SessionsTooShort(SimulatorGone):
    """The simulator answers, and its sessions end before enough was collected for one update."""

    reason = Reason.SIMULATOR_SESSIONS_TOO_SHORT
