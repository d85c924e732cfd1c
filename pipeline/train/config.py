"""What one run is made of: its parameters, stated once.

The command line is made from `RunConfig`, and a test holds `MLproject` against it.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from pipeline.texts import did_you_mean

# Keras's optimizers that fit a plain `fit`, with Keras's own learning rates. They stand here, and a
# test holds them against Keras, because whoever reads a run back must know them without TensorFlow.
OPTIMIZERS = {
    "adadelta": 0.001,
    "adafactor": 0.001,
    "adagrad": 0.001,
    "adam": 0.001,
    "adamax": 0.001,
    "adamw": 0.001,
    "ftrl": 0.001,
    "lamb": 0.001,
    "lion": 0.001,
    "muon": 0.001,
    "nadam": 0.001,
    "rmsprop": 0.001,
    "schedulefreeadamw": 0.0025,
    "sgd": 0.01,
}
DEFAULT = "default"  # the optimizer's own learning rate
_LEARNING_RATE_SCHEMA = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": DEFAULT}]}

# A parameter beside `learning_rate`: `mlflow run` logs that one as typed, which may be `default`.
USED_LEARNING_RATE = "learning_rate_used"

# What fingerprints of version 1 cover, whatever its value.
_VERSION_1 = {
    "optimizer",
    "epochs",
    "l1",
    "learning_rate",
    "batch_size",
    "encoding_dim",
    "decoder_hidden",
    "seed",
    "dataset",
}

SOURCES = ("init", "order", "split")  # of variance, each of which a run's seed decides, or not
_STILL = 0  # the seed of what stands still
_SOURCES_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"enum": list(SOURCES)}, "minItems": 1, "uniqueItems": True},
    ]
}

_SMALLEST, _LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # positive numbers of 32 bits, with all their digits


def path_and_white(dataset: str) -> tuple[str, float | None]:
    """`digits.npz#max=16` as its path and the pixel value that is white; None where that is not said.

    Raises:
        ValueError: what is said is no number above 0 that 32 bits can hold.
    """
    path, said, value = dataset.rpartition("#max=")
    if not said:
        return dataset, None
    try:
        white = float(value)
        if path and _SMALLEST <= white <= _LARGEST:
            return path, int(white) if white.is_integer() else white
    except ValueError:
        pass
    raise ValueError("what follows a path and #max= is the pixel value that is white, a number above 0, such as 16")


def _dataset(value: str) -> str:
    """`#max=16.0` and `#max=16` are one configuration."""
    path, white = path_and_white(value)
    return value if white is None else f"{path}#max={white}"


def _in_32_bits(value: float) -> float:
    """Training computes in 32 bits, where a smaller number is 0 and a larger one is infinite."""
    if value and not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"numbers of 32 bits are 0 or from {_SMALLEST:.1e} to {_LARGEST:.1e}")
    return value


def _learning_rate(value: Any, info: ValidationInfo) -> Any:
    """`default` becomes the number that the optimizer uses, so that both are one configuration."""
    return OPTIMIZERS.get(info.data.get("optimizer", ""), 1.0) if value == DEFAULT else value


def _optimizer(value: Any) -> Any:
    name = str(value).lower()
    if name not in OPTIMIZERS:
        raise ValueError(f"allowed: {', '.join(OPTIMIZERS)}{did_you_mean(name, OPTIMIZERS)}")
    return name


def _sources(value: Any) -> str:
    names = value if isinstance(value, list | tuple) else str(value).split("+")
    if not names or not set(names) <= set(SOURCES) or len(set(names)) < len(names):
        raise ValueError(f"allowed: one or several of {', '.join(SOURCES)}, joined by +")
    return "+".join(name for name in SOURCES if name in names)


class RunConfig(BaseModel):
    """Every parameter of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Annotated[str, BeforeValidator(_optimizer), WithJsonSchema({"enum": list(OPTIMIZERS)})] = Field(
        "adadelta", description="a Keras optimizer, by its lower-case name"
    )
    epochs: int = Field(50, ge=1, le=10**9, description="passes over the training images")
    l1: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_in_32_bits)] = Field(
        0.0,
        description="L1 penalty on the encoder's output: times the sum over its units, mean over the batch",
    )
    learning_rate: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False),
        AfterValidator(_in_32_bits),
        BeforeValidator(_learning_rate),
        WithJsonSchema(_LEARNING_RATE_SCHEMA),
    ] = Field(DEFAULT, validate_default=True, description="a number, or `default` for the optimizer's own")
    batch_size: int = Field(256, ge=1, description="images per training step")
    architecture: Literal["dense", "conv"] = Field(
        "dense",
        description="`dense`, or `conv`: two convolutions with stride 2 before the code and their transposes behind",
    )
    encoding_dim: int = Field(32, ge=1, le=65536, description="width of the encoder's output")
    decoder_hidden: int = Field(
        0,
        ge=0,
        le=65536,
        description="width of one more sigmoid layer in the decoder; 0 = none, 784 = the published baseline",
    )
    validation: int = Field(
        0,
        ge=0,
        le=10**9,
        description="training images held out for validation, so that the test images are measured once, at the end; "
        "0 = the test images are the validation images, as published",
    )
    vary: Annotated[str, BeforeValidator(_sources), WithJsonSchema(_SOURCES_SCHEMA)] = Field(
        "init+order",
        description="what the seed decides, joined by `+`: `init` (first weights), `order` (of images in an epoch), "
        "`split` (which images are held out); the others stand still",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="the only source of randomness")
    dataset: Annotated[str, Field(min_length=1), AfterValidator(_dataset)] = Field(
        "mnist",
        description="`mnist`, `fashion_mnist`, or a path: an .npz with x_train and x_test, or a folder of IDX or CSV "
        "files; `#max=16` behind it says which value is white where it is not 1, 255 or 65535",
    )

    @model_validator(mode="after")
    def _splits_something(self) -> RunConfig:
        if "split" in self.vary and not self.validation:
            raise ValueError(f"vary={self.vary} wants a split to vary: set validation above 0, or leave split out")
        return self

    def seed_of(self, source: str) -> int:
        """The seed of one of `SOURCES`."""
        return self.seed if source in self.vary.split("+") else _STILL

    @property
    def params(self) -> dict[str, Any]:
        """Values by name, in the order above."""
        return self.model_dump()

    @property
    def logged(self) -> dict[str, Any]:
        """The params of a run: `mlflow run` has logged a learning rate as typed, which may be `default`."""
        return {**self.params, USED_LEARNING_RATE: self.learning_rate}

    @property
    def data(self) -> str:
        """What `Configuration.data` is."""
        return self.dataset

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that are the same for the same configuration, however it was typed."""
        return self.fingerprints[0]

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprint, and those that versions before have given this configuration.

        It covers what is not the default, so that a parameter that is new changes none. The optimizers' own learning
        rates are Keras's, and may change: that one is always covered.
        """
        params, fields = self.params, type(self).model_fields
        changed = {k: v for k, v in params.items() if k == "learning_rate" or v != fields[k].default}
        before = [{k: params[k] for k in _VERSION_1}] if changed.keys() <= _VERSION_1 else []
        return tuple(_digest(content) for content in ({"version": 2, "changed": changed}, *before))

    @property
    def name(self) -> str:
        """A run name that a person can tell apart: `adam-50ep`, then whatever is not the default."""
        plain = RunConfig(optimizer=self.optimizer, epochs=self.epochs)
        changed = {k: v for k, v in self.model_dump().items() if v != getattr(plain, k)}
        if "dataset" in changed:
            changed["dataset"] = Path(self.dataset).name
        return "-".join([f"{self.optimizer}-{self.epochs}ep", *(f"{k}={v}" for k, v in changed.items())])

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> RunConfig:
        """A run's MLflow params, back through their types.

        `mlflow run` logs what was typed, quoted for the shell: `1e-5`, `1e-05` and `0.00001` are one
        value, and `'a b'` is `a b`. Params of other names are passed over.

        Raises:
            ValueError: the params are not those of a run of this project.
        """
        known = {k: v for k, v in params.items() if k in cls.model_fields}
        if USED_LEARNING_RATE in params:
            known["learning_rate"] = params[USED_LEARNING_RATE]
        return cls.model_validate({k: shlex.split(v)[0] if v.startswith("'") else v for k, v in known.items()})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def pictured(epoch: int, epochs: int) -> bool:
    """Whether the UI shows reconstructions of this epoch: 0 (where its slider begins), 1, 2, 5, 10, ..., the last."""
    return epoch in (0, epochs) or str(epoch).rstrip("0") in {"1", "2", "5"}
