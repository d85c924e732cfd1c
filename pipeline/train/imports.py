"""What every process needs that trains; see `pipeline.task.Task.imports`."""

import contextlib
import os

from pipeline.task import DATA
from pipeline.train.dataset import FASHION_MNIST
from pipeline.train.run import import_tensorflow, load

import_tensorflow()

import mlflow.tensorflow  # noqa: E402, F401

from pipeline.train import training  # noqa: E402, F401

if os.environ.get(DATA) not in (None, FASHION_MNIST):  # Keras loads that, and only one process may download it
    with contextlib.suppress(Exception):  # the study itself says what is wrong with it
        load(os.environ[DATA])
