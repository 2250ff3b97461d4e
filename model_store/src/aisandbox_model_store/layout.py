"""The names of the folders and files of a run below MODELS_DIR and CHECKPOINT_DIR.

    MODELS_DIR/runs/RUN/{uid,trainingrun.json}
    MODELS_DIR/runs/RUN/models/STEP/{manifest.json and the files of aisandbox_model_store.served_model}
    MODELS_DIR/runs/RUN/models/{latest,best,final}
    MODELS_DIR/runs/RUN/weights/STEP/{manifest.json and the trainer's files}
    MODELS_DIR/runs/RUN/{started-from.json,learned-from.json}
    MODELS_DIR/runs/RUN/output.zip
    MODELS_DIR/runs/RUN/{attempts,logs}/
    MODELS_DIR/runs/.outputs/DIGEST.json
    MODELS_DIR/runs/.sources/RUN
    CHECKPOINT_DIR/runs/RUN/checkpoints/STEP/{manifest.json, model.zip, the trainer's other files}

Runs that exist have these names: none may change. Must not know how the files are written.
"""

RUNS_FOLDER = "runs"
MODELS_FOLDER = "models"
WEIGHTS_FOLDER = "weights"
"""The weights of each published model, for runs that start from it; models themselves can only act."""
CHECKPOINTS_FOLDER = "checkpoints"
LOGS_FOLDER = "logs"
ATTEMPTS_FOLDER = "attempts"
RECORD_FILE = "trainingrun.json"
"""The run's record, which the local backend keeps."""
LARGEST_RECORD = 16 * 1024 * 1024
"""Bytes of it that a reader takes; a spec has at most 64 KiB, and a status texts of bounded length."""
UID_FILE = "uid"
SOURCE_FILE = "started-from.json"
"""What the run starts from, as its first attempt has found it."""
DEMONSTRATIONS_FILE = "learned-from.json"
"""The file of demonstrations, as its first attempt has found it."""
OUTPUT_FILE = "output.zip"
"""The final model that a trainer has prepared, before it is moved to where the run asked for it."""
SOURCES_FOLDER = ".sources"
"""Of all runs, beside their folders: a link for each to what it starts from, which its pod mounts."""
DEMONSTRATIONS_SUFFIX = ".demonstrations"
"""Of the link to a run's demonstrations, after its name: no name of a run has a dot."""
OUTPUT_RECORDS_FOLDER = ".outputs"
"""Of all runs, beside their folders: who has written which file outside of them, by the digest of its path.

A file .tmp-DIGEST there is the final model of a run that is being moved."""
MANIFEST_FILE = "manifest.json"
CHECKPOINT_ZIP = "model.zip"
"""The file of a checkpoint that Stable-Baselines3 can load."""
REASON_FILE = "reason.txt"
"""The file that says why the checkpoint beside it is damaged."""
POINTERS = ("latest", "best", "final")
