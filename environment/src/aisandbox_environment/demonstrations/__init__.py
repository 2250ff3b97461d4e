"""Demonstrations: episodes that were recorded from a session, in a Parquet file.

Needs the extra ``demonstrations`` (pyarrow). The file is data only, nothing in it is unpickled; docs/demonstrations.md
describes it. Must not know who learns from it.
"""

from aisandbox_environment.demonstrations.episode import Episode
from aisandbox_environment.demonstrations.reader import DemonstrationFile, Demonstrations
from aisandbox_environment.demonstrations.recording import Policy, RandomPolicy, record_episodes
from aisandbox_environment.demonstrations.writer import DemonstrationWriter, WrittenFile

__all__ = [
    "DemonstrationFile",
    "DemonstrationWriter",
    "Demonstrations",
    "Episode",
    "Policy",
    "RandomPolicy",
    "WrittenFile",
    "record_episodes",
]
