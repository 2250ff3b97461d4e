"""What the algorithms of the contract are called: the names of their classes. Must not know what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aisandbox.v1 import policy_trainer_pb2 as pb

ALGORITHM_NAMES: Mapping[int, str] = MappingProxyType(
    {
        pb.ALGORITHM_PPO: "PPO",
        pb.ALGORITHM_A2C: "A2C",
        pb.ALGORITHM_DQN: "DQN",
        pb.ALGORITHM_SAC: "SAC",
        pb.ALGORITHM_TD3: "TD3",
        pb.ALGORITHM_TQC: "TQC",
        pb.ALGORITHM_CROSSQ: "CrossQ",
        pb.ALGORITHM_QRDQN: "QRDQN",
        pb.ALGORITHM_MASKABLEPPO: "MaskablePPO",
        pb.ALGORITHM_RECURRENTPPO: "RecurrentPPO",
    }
)
"""By number; a number that this version does not know is not in it."""
