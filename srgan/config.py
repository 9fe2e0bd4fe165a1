"""The experiment's configuration: a strict, immutable model. `config_file.py` reads it from YAML.

The text below a field is its description in `configs/schema.json`, too.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Precision = Literal["float32", "mixed_bfloat16", "float64"]
VggName = Literal["vgg22", "vgg54"]
PhaseName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """Base of every part of the configuration: immutable, strict types, no unknown key."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class GeneratorConfig(Section):
    """SRResNet, the paper's generator; the defaults are the paper's."""

    blocks: int = Field(default=16, ge=1)
    """Residual blocks."""

    filters: int = Field(default=64, ge=1)
    """Feature maps of every block."""

    batch_norm: bool = True
    """Batch normalisation after the convolutions."""

    prelu_slope: float = Field(default=0.25, ge=0, lt=1)
    """The slope of PReLU for negative values at step 0; it is learned. With 0 a network begins more
    slowly, and may die."""

    direct_upsampling: bool = False
    """One sub-pixel convolution makes SR from LR-sized features (Shi et al. 2016), in place of the
    paper's stages and 9x9 convolution. A step of a small network takes less than half the time."""

    global_skip: bool = False
    """SR is LR, upscaled bilinearly, plus the network's output, without the paper's tanh. The
    network then learns only what bilinear upscaling lacks: it learns much faster."""

    icnr: bool = False
    """Initialise the sub-pixel convolutions so that they begin as nearest-neighbour upscaling
    (Aitken et al. 2017). It reduces checkerboard artefacts."""


class BatchConfig(Section):
    """The examples of a training step."""

    global_batch: int = Field(default=16, ge=1)
    """Examples per step over all replicas."""

    hr_crop: int = Field(default=96, ge=8)
    """Side of an HR crop in pixels. The side of the LR crop is this divided by the data set's
    scale."""

    permute_colours: bool = False
    """Shuffle the colour channels of every crop, the same way in HR and LR (Yoo et al. 2020, "RGB
    permutation"). For data sets that are poor in colours."""

    shuffle_shards: int | None = Field(default=None, ge=1)
    """Shuffle within this many shards at a time, not over the whole data set. A node's cache then
    needs to hold only twice as many shards."""


class LearningRateConfig(Section):
    """Adam's learning rate as a function of the phase's step."""

    initial: float = Field(default=1e-4, gt=0)
    """Learning rate at the phase's first step, or after the warm-up."""

    warmup_steps: int = Field(default=0, ge=0)
    """The learning rate grows in so many steps from near 0 to what it would be without this. For a
    large `batch.global_batch`."""

    decay: Literal["constant", "drop", "cosine"] = "constant"
    """`constant`; `drop`: a tenth of `initial` in the second half of the phase, as in the paper;
    `cosine`: half a cosine from `initial` to 0 at the phase's end. A warm-up shifts nothing."""


class LossWeights(Section):
    """The generator's loss: a weighted sum of the terms in `srgan/losses.py`."""

    mse: float = Field(default=0.0, ge=0)
    """Mean squared error of pixels."""

    l1: float = Field(default=0.0, ge=0)
    """Mean absolute error of pixels."""

    vgg22: float = Field(default=0.0, ge=0)
    """Content loss on the features of VGG19's block2_conv2. It is thousands of times the MSE in
    size: give it a small weight."""

    vgg54: float = Field(default=0.0, ge=0)
    """Content loss on the features of VGG19's block5_conv4."""

    lpips: float = Field(default=0.0, ge=0)
    """LPIPS by VGG16 (Zhang et al. 2018): a distance that was fitted to people's judgement. It
    needs `lpips_weights`."""

    adversarial: float = Field(default=0.0, ge=0)
    """-log D(SR). Above 0 the discriminator is trained too."""

    total_variation: float = Field(default=0.0, ge=0)
    """Total variation of SR."""

    @property
    def active(self) -> dict[str, float]:
        """The terms whose weight is above 0."""
        return {name: weight for name, weight in self.model_dump().items() if weight}

    @model_validator(mode="after")
    def _compares_with_hr(self) -> "LossWeights":
        if not (self.mse or self.l1 or self.vgg22 or self.vgg54 or self.lpips):
            raise ValueError("one of mse, l1, vgg22, vgg54 and lpips must be above 0")
        return self


class PhaseConfig(Section):
    """A part of the run with its own loss. Its optimizers start with no state."""

    epochs: int | None = Field(default=None, ge=1)
    """Length of the phase in epochs. An epoch has patches / global batch steps."""

    steps: int | None = Field(default=None, ge=1)
    """Length of the phase in steps, instead of epochs. The last epoch may be shorter."""

    losses: LossWeights
    """The loss that the generator minimises."""

    learning_rate: LearningRateConfig = LearningRateConfig()
    """Learning rate of both optimizers, which are Adam with beta1 0.9."""

    clip_norm: float | None = Field(default=None, gt=0)
    """Scale each network's gradient down to this global norm where it is larger."""

    @model_validator(mode="after")
    def _has_one_length(self) -> "PhaseConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("pass either epochs or steps")
        return self


class DiscriminatorConfig(Section):
    """The discriminator; the defaults are the paper's."""

    filters: int = Field(default=64, ge=1)
    """Feature maps of the first convolution. The last one has eight times as many."""

    dense: int = Field(default=1024, ge=1)
    """Units of the first dense layer; none with `patch`."""

    batch_norm: bool = True
    """Batch normalisation from the second convolution on."""

    patch: bool = False
    """A PatchGAN (Isola et al. 2017) in place of the paper's network: five convolutions, which give
    a logit for a square of 28 pixels around every fourth pixel. It has far fewer weights."""

    spectral_norm: bool = False
    """Spectral normalisation of the convolutions before the logits (Miyato et al. 2018). It limits
    how fast the discriminator's answer can change. Use it with `batch_norm: false`."""


class CheckpointsConfig(Section):
    """When a run saves its whole state, in addition to the end of every epoch."""

    every_minutes: float | None = Field(default=10, gt=0)
    """Save when the last checkpoint is this many minutes old."""

    every_steps: int | None = Field(default=None, ge=1)
    """Save at every multiple of this many steps of the run."""

    keep: int = Field(default=3, ge=1)
    """Number of checkpoints to keep: the newest ones."""


class FailuresConfig(Section):
    """The failures after which a run goes on."""

    restarts: int = Field(default=5, ge=0)
    """How many times the workers are started again from the last checkpoint, after a worker died
    or lost the others. Preemptions that Ray announces do not count."""

    skip_steps: int = Field(default=0, ge=0)
    """How many steps with a loss or gradient that is not finite are left out, over the whole run.
    One more ends the run."""

    cluster_minutes: float = Field(default=10, gt=0)
    """How many minutes the run waits for a cluster that is large enough."""

    stall_minutes: float | None = Field(default=5, ge=0.1)
    """After so many minutes without a step, or without a sign of life from a worker, the log names
    the workers that are behind, with their Python stacks, and all workers are started again, as one
    of the `restarts`. Compiling, setting up and saving may always take an hour, and
    `steps_per_call` steps twice as long as they ever took. Keep it below 10: then TensorFlow gives
    up, and names nobody. null: nobody looks."""


class Config(Section):
    """An experiment."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Determines the initial weights and every batch."""

    precision: Precision = "float32"
    """Keras's dtype policy. `mixed_bfloat16`: convolutions run in bfloat16, those of VGG too;
    weights, losses and outputs stay float32."""

    tf32: bool = True
    """On GPUs that have TF32: float32 convolutions round their inputs to 10 bits of mantissa and
    run several times faster. `false`: they keep all 23 bits."""

    xla: Literal["auto", True, False] = "auto"
    """Compile with XLA: with one replica a whole step, which a GPU then takes as one launch; with
    several replicas without batch normalisation all but Adam. `auto`: on GPUs, where that works."""

    steps_per_call: int | None = Field(default=None, ge=1)
    """Steps in one call of the compiled function. Between calls Python looks whether to save or to
    stop, for about a millisecond. By default 50 on GPUs, whose steps take milliseconds, and 10 on
    the CPU, where a call of 50 would make a stop wait for a minute."""

    generator: GeneratorConfig = GeneratorConfig()
    """The generator's size."""

    initial_generator: str | None = None
    """File or URI of a generator, such as RUN/generators/pretrain.keras, from which the run's first
    phase starts. It must have the configured size."""

    generator_average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the generator's variables, for example 0.999; after
    n updates of a phase it is (1 + n) / (10 + n) if that is less. The run then stores the average
    as its generators."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """The discriminator's size, for the phases that train it."""

    batch: BatchConfig = BatchConfig()
    """Batch size and crops."""

    vgg_weights: str = "imagenet"
    """Where VGG19's weights are, if a phase needs them: `imagenet` (Keras downloads them), or a
    .npz or .h5 file or URI with Keras's layer names."""

    lpips_weights: str | None = None
    """File or URI of a .npz with the weights of LPIPS's VGG16, if a phase needs them."""

    phases: dict[PhaseName, PhaseConfig] = Field(
        min_length=1, json_schema_extra={"additionalProperties": False}
    )
    """The phases by name, in order: usually `pretrain` with the MSE, then `gan`."""

    checkpoints: CheckpointsConfig = CheckpointsConfig()
    """When the run saves its whole state."""

    failures: FailuresConfig = FailuresConfig()
    """The failures after which the run goes on."""

    validation_images: int = Field(default=4, ge=0)
    """How many validation images are upscaled as a whole after an epoch, on the first worker's
    first GPU, else its CPUs, to be scored and shown. DIV2K's images take 2 GB of its memory."""

    @property
    def trains_discriminator(self) -> bool:
        """Whether some phase does."""
        return any(phase.losses.adversarial for phase in self.phases.values())

    @property
    def needs_lpips(self) -> bool:
        """Whether some phase's loss compares by LPIPS."""
        return any(phase.losses.lpips for phase in self.phases.values())

    @property
    def has_batch_norm(self) -> bool:
        """Whether a network that is trained normalises over the batch."""
        return self.generator.batch_norm or (
            self.trains_discriminator and self.discriminator.batch_norm
        )


def needed_extractors(config: Config) -> list[VggName]:
    """The VGG features that some phase's loss compares."""
    return [
        name
        for name in get_args(VggName)
        if any(getattr(phase.losses, name) for phase in config.phases.values())
    ]
