"""What the table says in words: the newest generator beside bicubic. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from srgan.evaluation.measures import MEASURES, Measure, Values
from srgan.evaluation.table import BICUBIC, NEAREST, SRGAN, SRRESNET, TableRun, cell, epochs_of

_MEASURE = {measure.key: measure for measure in MEASURES}
_PSNR = _MEASURE["psnr_y"]
_PERCEPTUAL = ("lpips", "vgg54", "vgg22")  # the first one that was taken is told

_USUAL_LOSS = 1.0
"""In dB. Published GANs at x4 stay within it: SRGAN has 25.16 dB on BSD100, bicubic 25.96."""

_GRID = 1.1
"""Bicubic and networks without a grid stay below it; a grid of half a level has 1.2."""

_TRAINED_WITH = {
    "vgg22": "VGG19",
    "vgg54": "VGG19",
    "lpips": "VGG16 (LPIPS)",
    "adversarial": "its discriminator",
}
"""The networks of losses, by the loss."""


class Verdict(NamedTuple):
    """One run's verdict.

    Attributes:
        headline: PSNR (Y) against bicubic, a sentence.
        details: Other measures, and what they mean; sentences.
    """

    headline: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([self.headline, *self.details])


def verdict(run: TableRun) -> Verdict:
    """Judges a run's newest generator by its means, of values as they are shown."""
    epochs = epochs_of(run.means)
    key = (SRGAN, epochs[-1]) if epochs else (SRRESNET, None)
    values, bicubic = run.means.get(key), run.means.get((BICUBIC, None), {})
    if values is None:
        nearest = cell(run.means.get((NEAREST, None)), _PSNR)
        psnr = f"bicubic has {cell(bicubic, _PSNR)} dB PSNR (Y), nearest {nearest} dB."
        return Verdict(f"Only the baselines are scored: {psnr}", ())
    name = f"Epoch {epochs[-1]}" if epochs else run.title(SRRESNET)
    gain = _gain(values, bicubic, _PSNR)
    taken = (_MEASURE[key] for key in _PERCEPTUAL)
    perceptual = next((one for one in taken if _gain(values, bicubic, one) is not None), None)
    details = [
        _sentence(measure, values, bicubic)
        for measure in (_MEASURE["ssim_y"], perceptual)
        if measure and _gain(values, bicubic, measure) is not None
    ]
    is_gan = run.is_gan and bool(epochs)
    meaning = _of_gan(gain, values, bicubic, perceptual) if is_gan else _of_srresnet(gain)
    headline = _headline(name, gain, values, bicubic)
    return Verdict(headline, (*details, *meaning, *_of_grid(values), *_of_networks(run, values)))


def _headline(name: str, gain: float | None, values: Values, bicubic: Values) -> str:
    if gain is None:
        return f"{name} is not compared with bicubic in PSNR (Y): a mean is absent."
    both = f"{cell(values, _PSNR)} against {cell(bicubic, _PSNR)} dB"
    if gain > 0:
        return f"{name} beats bicubic by {gain:.2f} dB PSNR (Y): {both}."
    if gain < 0:
        return f"{name} is {-gain:.2f} dB PSNR (Y) below bicubic: {both}."
    return f"{name} equals bicubic in PSNR (Y): {both}."


def _gain(values: Values, bicubic: Values, measure: Measure) -> float | None:
    """How much better than bicubic, above 0 if better, of rounded values; None if one is absent."""
    if measure.key not in values or measure.key not in bicubic:
        return None
    ours, theirs = (float(cell(one, measure)) for one in (values, bicubic))
    return (ours - theirs) * (1 if measure.higher_is_better else -1)


def _sentence(measure: Measure, values: Values, bicubic: Values) -> str:
    gain = _gain(values, bicubic, measure) or 0
    word = "better" if gain > 0 else "worse" if gain < 0 else "equal"
    lower = "" if measure.higher_is_better else "; lower is better"
    title = "SSIM (Y)" if measure.key == "ssim_y" else measure.title
    both = f"{cell(values, measure)} against bicubic's {cell(bicubic, measure)}"
    return f"{title} is {word}: {both}{lower}."


def _of_gan(
    gain: float | None, values: Values, bicubic: Values, perceptual: Measure | None
) -> Sequence[str]:
    """A GAN is judged by a perceptual measure."""
    meaning = []
    if gain is not None and gain < 0:
        meaning.append(
            "A GAN gives up PSNR for texture, so a PSNR near bicubic's is normal."
            if gain >= -_USUAL_LOSS
            else f"That is more than the {_USUAL_LOSS:g} dB that GANs usually give up for texture."
        )
    if perceptual is None:
        meaning.append(
            "No perceptual measure could be taken, so no number here says whether it looks better: "
            "look at the pictures."
        )
    else:
        is_nearer = (_gain(values, bicubic, perceptual) or 0) > 0
        do = "look" if is_nearer else "do not look"
        meaning.append(f"By {perceptual.title} its images {do} more like HR than bicubic's.")
    return meaning


def _of_grid(values: Values) -> Sequence[str]:
    """A warning of a grid."""
    found = cell(values, _MEASURE["grid"])
    if "grid" not in values or float(found) <= _GRID:  # as it is shown
        return ()
    return (f"Grid is {found}, above {_GRID:g}: look for a pattern of dots or lines.",)


def _of_srresnet(gain: float | None) -> Sequence[str]:
    """A network that learns from pixels alone is judged by PSNR."""
    if gain is None or gain > 0:
        return ()
    return (
        "A network that is trained without an adversarial loss usually beats bicubic: perhaps it "
        "has trained too short.",
    )


def _of_networks(run: TableRun, values: Values) -> list[str]:
    """Which networks its losses and its measures are of: one that did both flatters itself."""
    trained = sorted(
        {
            name
            for key, weight in run.settings.items()
            if weight and (name := _TRAINED_WITH.get(key.rpartition("losses.")[2]))
        }
    )
    if not run.settings or "lpips" not in values:
        return []
    networks = " and ".join(trained) or "no network"
    return [f"Trained with {networks}; LPIPS measures with AlexNet."]
