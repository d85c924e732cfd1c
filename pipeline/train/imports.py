"""What every process imports that trains; see `pipeline.task.Task.imports`."""

from pipeline.train.run import import_tensorflow

import_tensorflow()

import mlflow.tensorflow  # noqa: E402, F401

from pipeline.train import training  # noqa: E402, F401
