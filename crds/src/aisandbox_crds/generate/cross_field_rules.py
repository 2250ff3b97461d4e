"""The rules across fields of a TrainingRun, written by hand in the Common Expression Language.

Their Python is in validation.py, start_rules.py, stop_rules.py, lesson_rules.py, demonstration_rules.py and
scheduling.py. Must not know how a field becomes a schema.
"""

from __future__ import annotations

from collections.abc import Mapping

from aisandbox_crds.algorithms import ALGORITHMS
from aisandbox_crds.field_rules import CelRule
from aisandbox_crds.hyperparameter_table import parameters_of
from aisandbox_crds.lessons import DEFAULT_WINDOW, LessonEnd
from aisandbox_crds.policy_kwargs import BATCH_NORM
from aisandbox_crds.spec import Algorithm, PoolEnvironment, Resources, StartFrom, StopWhen, Toleration

NAME = CelRule(
    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$')",
    "metadata.name must be a DNS label of at most 52 characters (lower case letters, digits and '-'), because the Job "
    "and its pods are named after the run",
)
ONE_ENVIRONMENT = CelRule(
    "[has(self.gymnasium), has(self.grpc), has(self.pool), has(self.fake)].filter(said, said).size() == 1",
    "environment must have exactly one of gymnasium, grpc, pool and fake",
)
_WINDOW = f"(has(self.overEpisodes) ? self.overEpisodes : {DEFAULT_WINDOW})"
OF_OBJECTS: Mapping[type, tuple[CelRule, ...]] = {
    LessonEnd: (
        CelRule(
            "has(self.reward) || has(self.episodes) || has(self.timesteps)",
            "must have at least one of reward, episodes and timesteps",
        ),
        CelRule("!has(self.overEpisodes) || has(self.reward)", "must have a reward to have overEpisodes"),
        CelRule(
            f"!has(self.reward) || (!has(self.episodes) || self.episodes >= {_WINDOW}) && "
            f"(!has(self.timesteps) || self.timesteps >= {_WINDOW})",
            f"the reward can never be reached: it is the mean of overEpisodes ({DEFAULT_WINDOW}) episodes, and the "
            "lesson ends before they have ended",
        ),
    ),
    PoolEnvironment: (
        CelRule(
            "self.environments == 0 || self.minimum <= self.environments",
            "minimum must not be more than environments",
        ),
    ),
    StartFrom: (
        CelRule(
            "(has(self.run) && self.run != '') != (has(self.zip) && self.zip != '')",
            "must have exactly one of run and zip",
        ),
        CelRule(
            "!has(self.zip) || self.zip == '' || (!has(self.model) || self.model == '') && (!has(self.checkpoint) || "
            "self.checkpoint == '') && !(has(self.take) && 'normalization' in self.take)",
            "zip must be set without model, checkpoint and the part normalization",
        ),
        CelRule(
            "!has(self.model) || self.model == '' || !has(self.checkpoint) || self.checkpoint == ''",
            "must have one of model and checkpoint only",
        ),
        CelRule(
            "has(self.checkpoint) && self.checkpoint != '' || !has(self.take) || !('optimizer' in self.take || "
            "'replayBuffer' in self.take)",
            "optimizer and replayBuffer are parts of a checkpoint only: set checkpoint",
        ),
    ),
    StopWhen: (
        CelRule(
            "has(self.episodeRewardMean) || has(self.evaluationRewardMean) || "
            "self.evaluationsWithoutImprovement > 0 || self.trainingSeconds > 0",
            "must have at least one of episodeRewardMean, evaluationRewardMean, evaluationsWithoutImprovement and "
            "trainingSeconds",
        ),
        CelRule(
            "self.timesInARow == 1 || has(self.episodeRewardMean) || has(self.evaluationRewardMean)",
            "timesInARow counts how often a mean return is reached: set episodeRewardMean or evaluationRewardMean",
        ),
    ),
    Resources: (
        CelRule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            "requests must not be greater than limits",
        ),
    ),
    Toleration: (
        CelRule(
            "has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
            "must have a key, or the operator Exists, which then matches every taint",
        ),
        CelRule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "must have no value with the operator Exists",
        ),
        CelRule(
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "must have the effect NoExecute to have tolerationSeconds",
        ),
    ),
}
"""Those that concern several fields of one object."""

_FILES = CelRule(
    "!has(self.startFrom) || !has(self.startFrom.zip) || self.startFrom.zip == '' || !has(self.demonstrations) || "
    "!(self.demonstrations.file + '/').startsWith(self.startFrom.zip + '/') && "
    "!(self.startFrom.zip + '/').startsWith(self.demonstrations.file + '/')",
    "demonstrations.file must be another file than startFrom.zip, and neither inside the other",
)
_START = CelRule(
    "!has(self.startFrom) || !has(self.startFrom.take) || !('replayBuffer' in self.startFrom.take) || "
    f"self.algorithm in [{', '.join(repr(str(each)) for each, traits in ALGORITHMS.items() if traits.off_policy)}]",
    "startFrom.take has replayBuffer, which the algorithm does not have",
)
_NORMALIZING = [str(each) for each, traits in ALGORITHMS.items() if BATCH_NORM in traits.policy_keywords]
_CLONING = CelRule(
    f"!has(self.demonstrations) || self.demonstrations.batchSize > 1 || !(self.algorithm in {_NORMALIZING}) || "
    "has(self.hyperparameters) && 'policy_kwargs' in self.hyperparameters",
    "demonstrations.batchSize must be at least 2 with this algorithm, for batch normalisation",
)
_EVALUATION_INTERVAL = (
    "(self.evaluation.everyTimesteps > 0 ? self.evaluation.everyTimesteps : self.checkpointEveryTimesteps > 0 ? "
    "self.checkpointEveryTimesteps : self.totalTimesteps > 1000000 ? 100000 : self.totalTimesteps > 10 ? "
    "self.totalTimesteps / 10 : 1)"
)
_STOPS = "!has(self.stopWhen)"
_STOP: tuple[CelRule, ...] = (
    CelRule(
        f"{_STOPS} || has(self.evaluation) || !has(self.stopWhen.evaluationRewardMean) && "
        "self.stopWhen.evaluationsWithoutImprovement == 0",
        "stopWhen.evaluationRewardMean and stopWhen.evaluationsWithoutImprovement are never reached without "
        "evaluations: set evaluation",
    ),
    CelRule(
        f"{_STOPS} || !has(self.evaluation) || (has(self.stopWhen.evaluationRewardMean) ? self.stopWhen.timesInARow "
        f": 0) <= (self.totalTimesteps - 1) / {_EVALUATION_INTERVAL}",
        "stopWhen.evaluationRewardMean is never reached: there are fewer evaluations before the end than timesInARow",
    ),
    CelRule(
        f"{_STOPS} || !has(self.evaluation) || self.stopWhen.evaluationsWithoutImprovement == 0 || "
        f"self.stopWhen.evaluationsWithoutImprovement < (self.totalTimesteps - 1) / {_EVALUATION_INTERVAL}",
        "stopWhen.evaluationsWithoutImprovement is never reached: there are not as many evaluations, and one more, "
        "before the end",
    ),
    CelRule(
        f"{_STOPS} || !has(self.activeDeadlineSeconds) || self.stopWhen.trainingSeconds < self.activeDeadlineSeconds",
        "stopWhen.trainingSeconds is never reached: the run fails after its activeDeadlineSeconds",
    ),
)
"""Which of stopWhen could never end the run. What follows from hyperparameters too is in stop_rules.py only."""

OF_THE_SPEC = (_START, _FILES, _CLONING, *_STOP)
"""Those that concern several objects of the spec."""


def hyperparameters_of(algorithm: Algorithm) -> CelRule:
    """Which hyperparameters a run with that algorithm may have."""
    names = sorted(parameter.name for parameter in parameters_of(algorithm))
    listed = ", ".join(f"'{name}'" for name in names)
    known = f"!has(self.hyperparameters) || self.hyperparameters.all(k, k in [{listed}])"
    return CelRule(
        f"self.algorithm != '{algorithm}' || {known}",
        f"{algorithm} has the hyperparameters {', '.join(names)}, and no others",
    )
