"""Demonstrations: episodes that were recorded from a session, in a Parquet file.

Needs the extra ``demonstrations`` (pyarrow). The file is data only, nothing in it is unpickled; docs/demonstrations.md
describes it. Must not know who learns from it.
"""

import os

# Read when pyarrow is imported. Its own allocator reserves a gigabyte, which counts against a trainer's RLIMIT_DATA.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from aisandbox_environment.demonstrations.episode import Episode
from aisandbox_environment.demonstrations.reader import DemonstrationFile, Demonstrations
from aisandbox_environment.demonstrations.recording import Policy, RandomPolicy, record_episodes
from aisandbox_environment.demonstrations.replay import EpisodeRecording, read_recordings, replay_episodes
from aisandbox_environment.demonstrations.writer import DemonstrationWriter, WrittenFile

__all__ = [
    "DemonstrationFile",
    "DemonstrationWriter",
    "Demonstrations",
    "Episode",
    "EpisodeRecording",
    "Policy",
    "RandomPolicy",
    "WrittenFile",
    "read_recordings",
    "record_episodes",
    "replay_episodes",
]
