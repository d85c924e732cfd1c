"""Names in the tracking store that writers and readers share: artifacts and tags; and one in the environment."""

from __future__ import annotations

LAUNCHED = "MLFLOW_RUN_ID"  # variable of the environment: the run that `mlflow run` opened for this process

# Artifacts that are read back: what a study's run was to make and has chosen, and the key of a run's pictures.
PLAN_FILE = "plan.json"
PLANS = "plans"  # a folder: each plan that the study was started with, by the milliseconds since 1970 of when
TUNED_FILE = "tuned.json"  # of a study that tunes: by variation, the nuisance parameters that were chosen
PICTURE = "reconstructions"
RECONSTRUCTIONS_FILE = "reconstructions.npz"  # `originals` and `reconstructed`: [images, height, width, channels] uint8

# Tags: what made the run.
FINGERPRINT = "fingerprint"
DATA_HASH = "data_hash"
LOCK_HASH = "lock_hash"
GIT_DIRTY = "git_dirty"
HARDWARE = "hardware"
FAILURE = "failure"  # why it did not finish
# Tags: its place in a study.
STUDY = "study"
VARIATION = "variation"
SEED = "seed"
ROLE = "role"  # TUNING, or no such tag
TUNING = "tuning"  # made to choose its variation's nuisance parameters, and not reported
GRID_POINT = "grid_point"  # of such a run: their values, as in `learning_rate=0.01`
PLAN = "plan"  # of a study's parent run: a digest of what was to be run
ATTEMPT = "attempt"  # the how manieth time that this run was started, where it is not the first
REUSED_FROM = "reused_from"  # the run that this one stands for
COMPARED = "compared"  # of a run that `compare` made or that was opened for it: the command that says what
SUMMARY_OF = "summary_of"  # of a run that `compare` made of the runs of a variation: that one's name
NOTE = "mlflow.note.content"  # MLflow's own: what its UI shows as a run's description
GOES_ON_IN = "goes_on_in"  # of a run that `mlflow run` opened: the run of the study, or that has a comparison's files
# Tags: whether it is alive, and where what it says is kept until the store has it.
OWNER = "owner"
HEARTBEAT = "heartbeat"
JOURNAL = "journal"
# Tags of MLflow's own, some of which its documentation lists; held true by tests/test_mlflow_compat.py.
MLFLOW_DATASET_CONTEXT = "mlflow.data.context"
MLFLOW_GIT_COMMIT = "mlflow.source.git.commit"
MLFLOW_LOGGED_IMAGES = "mlflow.loggedImages"
MLFLOW_PARENT_RUN_ID = "mlflow.parentRunId"
MLFLOW_PROJECT_ENTRY_POINT = "mlflow.project.entryPoint"
MLFLOW_RUN_NAME = "mlflow.runName"
MLFLOW_SOURCE_NAME = "mlflow.source.name"
MLFLOW_SOURCE_TYPE = "mlflow.source.type"
MLFLOW_USER = "mlflow.user"
