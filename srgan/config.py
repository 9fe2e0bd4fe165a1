"""The experiment's configuration: YAML, strict, validated before anything starts."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from data_pipeline.platform.errors import UserError, differences
from srgan.strict_yaml import StrictLoader

Precision = Literal["float32", "mixed_bfloat16", "float64"]
VggName = Literal["vgg22", "vgg54"]
PhaseName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """Base of every part of the configuration: immutable, strict types, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GeneratorConfig(Section):
    """SRResNet, the paper's generator; the defaults are the paper's.

    Attributes:
        blocks: Residual blocks.
        filters: Feature maps of every block.
        batch_norm: Batch normalisation after the convolutions.
        icnr: Initialise the sub-pixel convolutions so that they begin as nearest-neighbour
            upscaling (Aitken et al. 2017): fewer checkerboards.
    """

    blocks: int = Field(default=16, ge=1)
    filters: int = Field(default=64, ge=1)
    batch_norm: bool = True
    icnr: bool = False


class BatchConfig(Section):
    """What a training step sees.

    Attributes:
        global_batch: Examples per step over all replicas.
        hr_crop: HR crop side in pixels; the LR crop is this over the data set's scale.
        permute_colours: Shuffles the colour channels of every crop, the same in HR and LR (Yoo et
            al. 2020, "RGB permutation"); for data sets that are poor in colours.
        shuffle_shards: Shuffle within so many shards at a time instead of over the whole data
            set, so that a node's cache needs to hold only twice as many.
    """

    global_batch: int = Field(default=16, ge=1)
    hr_crop: int = Field(default=96, ge=8)
    permute_colours: bool = False
    shuffle_shards: int | None = Field(default=None, ge=1)


class LearningRateConfig(Section):
    """Adam's learning rate as a function of the phase's step.

    Attributes:
        initial: Its value at the phase's first step.
        decay: `constant`; `drop`: a tenth of `initial` from half of the phase on, as in the paper;
            `cosine`: half a cosine from `initial` to 0 at the phase's end.
    """

    initial: float = Field(default=1e-4, gt=0)
    decay: Literal["constant", "drop", "cosine"] = "constant"


class LossWeights(Section):
    """The generator's loss: a weighted sum. See `srgan/losses.py` for the terms.

    Attributes:
        mse: Mean squared error of pixels.
        l1: Mean absolute error of pixels.
        vgg22: Content loss after VGG19's block2_conv2.
        vgg54: Content loss after VGG19's block5_conv4.
        adversarial: -log D(SR). Above 0 the discriminator is trained too.
        total_variation: Of SR.
    """

    mse: float = Field(default=0.0, ge=0)
    l1: float = Field(default=0.0, ge=0)
    vgg22: float = Field(default=0.0, ge=0)
    vgg54: float = Field(default=0.0, ge=0)
    adversarial: float = Field(default=0.0, ge=0)
    total_variation: float = Field(default=0.0, ge=0)

    @property
    def active(self) -> dict[str, float]:
        """The terms whose weight is above 0."""
        return {name: weight for name, weight in self.model_dump().items() if weight}

    @model_validator(mode="after")
    def _compares_with_hr(self) -> "LossWeights":
        if not (self.mse or self.l1 or self.vgg22 or self.vgg54):
            raise ValueError("one of mse, l1, vgg22 and vgg54 must be above 0")
        return self


class PhaseConfig(Section):
    """A part of the run with a loss of its own. Its optimizers start afresh.

    Attributes:
        epochs: Its length; an epoch is patches / global batch steps.
        steps: Its length instead; the last epoch may be cut short.
        losses: What the generator minimises.
        learning_rate: Of both optimizers, Adam with beta1 0.9.
        clip_norm: Scales each network's gradient down to this global norm where it is larger.
    """

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    losses: LossWeights
    learning_rate: LearningRateConfig = LearningRateConfig()
    clip_norm: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_one_length(self) -> "PhaseConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("pass either epochs or steps")
        return self


class DiscriminatorConfig(Section):
    """The paper's discriminator; the defaults are the paper's.

    Attributes:
        filters: Feature maps of the first convolution; the last has eight times as many.
        dense: Units of the first dense layer.
        batch_norm: Batch normalisation from the second convolution on.
    """

    filters: int = Field(default=64, ge=1)
    dense: int = Field(default=1024, ge=1)
    batch_norm: bool = True


class CheckpointsConfig(Section):
    """When a run saves everything that it needs to go on, beside the end of every epoch.

    Attributes:
        every_minutes: After so many minutes without a checkpoint.
        every_steps: At every multiple of so many steps of the run.
        keep: The last so many are kept.
    """

    every_minutes: float | None = Field(default=10, gt=0)
    every_steps: int | None = Field(default=None, ge=1)
    keep: int = Field(default=3, ge=1)


class FailuresConfig(Section):
    """What a run outlives.

    Attributes:
        restarts: So many times the workers are started again from the last checkpoint after one
            of them died or lost the others. Preemptions that Ray announces do not count.
        skip_steps: So many steps whose loss or gradient is not finite are left out, over the
            whole run; one more ends it. Above 0 every step keeps a copy of the weights.
        cluster_minutes: So long the run waits for a cluster that is large enough.
    """

    restarts: int = Field(default=5, ge=0)
    skip_steps: int = Field(default=0, ge=0)
    cluster_minutes: float = Field(default=10, gt=0)


class Config(Section):
    """An experiment.

    Attributes:
        seed: Determines the initial weights and every batch.
        precision: Keras's dtype policy.
        xla: Compile the forward and the backward pass with XLA.
        steps_per_call: Steps in one call of the compiled function.
        generator: The generator's size.
        initial_generator: File or URI of a generator, as `RUN/generators/pretrain.keras`, that the
            run's first phase starts from; its size must be the configured one.
        generator_average: Decay of an exponential moving average of the generator's variables,
            as in 0.999; the generators that the run leaves are the average then.
        discriminator: The discriminator's size, where a phase trains it.
        batch: What a training step sees.
        vgg_weights: Where VGG19's weights are, if a phase needs them: `imagenet` (downloaded by
            Keras), or a .npz or .h5 file or URI with Keras's layer names.
        phases: By name, in order: usually `pretrain` with the MSE, then `gan`.
        checkpoints: When the run saves its state.
        failures: What it outlives.
        validation_images: So many validation images are upscaled as a whole after every epoch, on
            the first worker's CPUs, to be scored and shown; DIV2K's take 2 GB of its memory.
    """

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    precision: Precision = "float32"
    xla: bool = False
    steps_per_call: int = Field(default=10, ge=1)
    generator: GeneratorConfig = GeneratorConfig()
    initial_generator: str | None = None
    generator_average: float | None = Field(default=None, gt=0, lt=1)
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    batch: BatchConfig = BatchConfig()
    vgg_weights: str = "imagenet"
    phases: dict[PhaseName, PhaseConfig] = Field(min_length=1)
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    failures: FailuresConfig = FailuresConfig()
    validation_images: int = Field(default=4, ge=0)

    @property
    def trains_discriminator(self) -> bool:
        """Whether some phase does."""
        return any(phase.losses.adversarial for phase in self.phases.values())


def needed_extractors(config: Config) -> list[VggName]:
    """The VGG features that some phase's loss compares."""
    return [
        name
        for name in get_args(VggName)
        if any(getattr(phase.losses, name) for phase in config.phases.values())
    ]


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration file.

    Args:
        path: The YAML file.
        overrides: `KEY=VALUE` strings: a dotted key and a YAML value, applied in order.

    Raises:
        UserError: If the file does not read, or a key is unknown, missing or of a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; pass a configuration file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; pass a configuration file") from error
    content = _parse(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, see configs/demo.yaml")
    for override in overrides:
        _apply(content, override)
    return _validate(content, str(path))


def parse_config(text: str, where: str) -> Config:
    """Reads a configuration from YAML text; `where` names it in errors. Raises UserError."""
    return _validate(_parse(text, where), where)


def dump_config(config: Config) -> str:
    """The configuration with every default written out, as YAML that `parse_config` reads."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def differing_keys(old: Config, new: Config) -> list[str]:
    """One `key: old, now new` for every dotted key of `fixed_settings` that differs."""
    return differences(*(_flatten(fixed_settings(config)) for config in (old, new)))


def fixed_settings(config: Config) -> dict[str, Any]:
    """What a run keeps from its beginning to its end.

    It may change how it is compiled, how often it saves, what it outlives and shows, and the
    lengths of its phases; whether a phase whose length is changed is over, its checkpoints tell.
    """
    content = config.model_dump(
        exclude={"xla", "steps_per_call", "checkpoints", "failures", "validation_images"}
    )
    for phase in content["phases"].values():
        del phase["epochs"], phase["steps"]
    return content


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, StrictLoader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not YAML: {' '.join(str(error).split())}") from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"--set {override}: expected KEY=VALUE, as in --set batch.global_batch=8")
    *parents, last = key.split(".")
    section: Any = content
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UserError(f"--set {override}: {parent} is not a section")
    section[last] = _parse(value, f"--set {override}")


def _validate(content: Any, where: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where}: unknown key {key}{_suggestion(key)}") from error
        if first["type"] == "missing":
            raise UserError(f"{where}: the key {key} is missing") from error
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        raise UserError(f"{where}: {key}: {message}, got {first['input']!r}") from error


def _suggestion(key: str) -> str:
    known = _known_keys(Config)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _known_keys(kind, f"{prefix}{name}.")
        elif PhaseConfig in get_args(kind):
            keys += _known_keys(PhaseConfig, f"{prefix}{name}.NAME.")
        else:
            keys.append(prefix + name)
    return keys


def _flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
