"""Makes the folder of the run, which the trainer's container mounts."""

import os
from pathlib import Path

Path(os.environ["MODELS_DIR"], "runs", os.environ["RUN_ID"]).mkdir(parents=True, exist_ok=True)
