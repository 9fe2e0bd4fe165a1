"""The model card: Markdown for people, with the fields that Hugging Face reads."""

import io
import re
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from ruamel.yaml import YAML

from srgan.evaluation.measures import MEASURES, Measure
from srgan.evaluation.table import cell
from srgan.export.check import Difference
from srgan.export.facts import Facts, Scores
from srgan.export.formats import FORMATS, Name

# Hugging Face's names of the measures that it knows; the others go by our own keys.
_METRICS = {"psnr_rgb": "psnr", "psnr_y": "psnr", "ssim_rgb": "ssim", "ssim_y": "ssim"}
_OF_THE_NETWORK = ("parameters", "gflops")


class _Table(NamedTuple):
    """Scores for people: title of the images, protocol's lines, rows of measure, ours, bicubic."""

    images: str
    protocol: dict[str, Any]
    rows: list[tuple[str, str, str]]


def model_card(facts: Facts, name: Name, difference: Difference) -> str:
    """The README.md of an export.

    Args:
        facts: What describes the generator.
        name: The export's format.
        difference: How far it is from Keras.

    Returns:
        Markdown that begins with YAML.
    """
    form = FORMATS[name]
    return _template().render(
        front_matter=_yaml(front_matter(facts, name)),
        facts=facts,
        form=form,
        difference=difference,
        tables=[_table(one) for one in facts.scores],
        losses=_losses(facts.config),
    )


def front_matter(facts: Facts, name: Name) -> dict[str, Any]:
    """The card's fields by Hugging Face's names (huggingface.co/docs/hub/model-cards).

    The licence of a generator is its owner's to choose. Without the training images' own it is
    unknown.
    """
    form = FORMATS[name]
    licence: dict[str, str] = {"license": "unknown"}
    if facts.data_set.licence:
        licence = {
            "license": "other",
            "license_name": f"trained-on-{facts.data_set.name}",
            "license_link": facts.data_set.licence_link,
        }
    library = {"library_name": form.library} if form.library else {}
    tags = ["super-resolution", "image-super-resolution", "srgan", f"x{facts.scale}", name]
    fields: dict[str, Any] = {
        **licence,
        **library,
        "pipeline_tag": "image-to-image",
        "tags": tags,
        "metrics": ["psnr", "ssim"],
    }
    if facts.scores:
        results = [_result(one, facts.scale) for one in facts.scores]
        fields["model-index"] = [{"name": f"srgan-x{facts.scale}-{facts.name}", "results": results}]
    return fields


def _result(scores: Scores, scale: int) -> dict[str, Any]:
    images = _images(scores)
    return {
        "task": {"type": "image-to-image", "name": f"x{scale} super-resolution"},
        "dataset": {"type": re.sub(r"\W+", "-", images.lower()), "name": images},
        "metrics": [
            {
                "type": _METRICS.get(measure.key, measure.key),
                "name": measure.title,
                "value": round(scores.generator[measure.key], measure.digits),
            }
            for measure in _measures(scores)
        ],
    }


def _table(scores: Scores) -> _Table:
    rows = [
        (
            f"{one.title}{f' ({one.unit})' if one.unit else ''}",
            cell(scores.generator, one),
            cell(scores.bicubic, one),
        )
        for one in _measures(scores)
    ]
    absent = {one.title for one in MEASURES} - {one.title for one in _measures(scores)}
    protocol = {key: value for key, value in scores.protocol.items() if key not in absent}
    return _Table(_images(scores), protocol, rows)


def _measures(scores: Scores) -> list[Measure]:
    """Those of pictures; what the network itself has stands elsewhere in the card."""
    return [
        one for one in MEASURES if one.key in scores.generator and one.key not in _OF_THE_NETWORK
    ]


def _images(scores: Scores) -> str:
    """The name of the images, which the protocol has together with their number."""
    return str(scores.protocol["images"]).rpartition(", ")[0]


def _losses(config: dict[str, Any]) -> dict[str, str]:
    """The losses of each phase that have a weight, for people."""
    return {
        name: ", ".join(f"{loss} {weight:g}" for loss, weight in phase["losses"].items() if weight)
        for name, phase in config["phases"].items()
    }


def _yaml(fields: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(fields, text)
    return text.getvalue()


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("srgan.export", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md.j2")
