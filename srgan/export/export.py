"""An export of one generator: written aside, compared with Keras, described, then put in place."""

import importlib.util
import json
import logging
import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_pipeline.platform.cuda import VISIBLE_VARIABLE
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.storage import Storage, open_storage
from srgan.evaluation.run_reader import open_run
from srgan.export.card import model_card
from srgan.export.check import Difference, check_pictures, compare
from srgan.export.facts import collect_facts
from srgan.export.formats import FORMATS, Format, Name
from srgan.export.keras_file import FACTS, facts_json
from srgan.generator_choice import Epoch
from srgan.trained import open_generator

CARD = "README.md"  # Hugging Face's name of a card

_MOST_LEVELS = 1  # what the rounding of sums in float32 may change


class ExportSummary(NamedTuple):
    """What an export tells its caller.

    Attributes:
        uri: Where it is.
        generator: The generator's name in RUN.
        scale: How many times it enlarges.
        difference: How far it is from Keras; None for an export that was there already.
    """

    uri: str
    generator: str
    scale: int
    difference: Difference | None


def export(run_uri: str, out_uri: str, name: Name, *, epoch: Epoch = None) -> ExportSummary:
    """Writes a generator of RUN in another format, with its facts and its model card.

    It runs on the CPU, in this process and one other.

    Args:
        run_uri: RUN.
        out_uri: A folder or prefix, which holds nothing or this very export.
        name: The format.
        epoch: See `srgan.generator_choice.choose_generator`.

    Raises:
        UserError: If RUN, the generator, a needed package or OUT is missing or wrong.
        JobFailedError: If the export does not run, or is more than a level from Keras; nothing is
            written then.
    """
    form = FORMATS[name]
    _check_packages(name, form)
    out = _open_out(out_uri)
    os.environ[VISIBLE_VARIABLE] = ""  # a driver opens no GPU, nor does the process that compares
    for library in ("absl", "tensorflow"):  # they warn of every new size of a picture
        logging.getLogger(library).setLevel(logging.ERROR)
    generator = open_generator(run_uri, epoch)
    facts = collect_facts(open_run(run_uri), generator)
    described = {"format": name, **form.values, **facts.as_json()}
    summary = ExportSummary(out.uri, generator.name, generator.scale, None)
    if _is_there(out, form, described):
        return summary
    with tempfile.TemporaryDirectory() as temporary:
        folder, scratch = Path(temporary, "export"), Path(temporary, "scratch")
        folder.mkdir()
        scratch.mkdir()
        form.write(generator.model, described, folder)
        pictures = check_pictures(generator.scale)
        difference = compare(generator.upscale, folder, form, pictures, scratch)
        if difference.levels > _MOST_LEVELS:
            raise JobFailedError(
                f"{form.title}: differs by {difference.levels} levels from Keras on "
                f"{difference.where}: nothing is written"
            )
        # The facts come first: they tell what is ours. An export without a card is unfinished.
        out.write(FACTS, facts_json(described).encode())
        _put(out, folder, form)
    out.write(CARD, model_card(facts, name, difference).encode())
    return summary._replace(difference=difference)


def _check_packages(name: Name, form: Format) -> None:
    missing = [module for module in form.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"--format {name}: needs {' and '.join(missing)}; "
            'pip install "srgan-distributed[export]", or pip install ".[export]" in the repository'
        )


def _open_out(uri: str) -> Storage:
    if PurePosixPath(uri).suffix in (".keras", ".onnx", ".pb"):
        raise UserError(f"{uri}: OUT becomes a folder of files; leave the suffix out")
    return open_storage(uri)


def _is_there(out: Storage, form: Format, described: dict[str, Any]) -> bool:
    """Whether OUT holds this export, whole.

    Raises:
        UserError: If it holds something else.
    """
    keys = [item.key for item in out.list()]
    ours = {*form.files, FACTS, CARD}
    foreign = [
        key for key in keys if FACTS not in keys or "".join(key.partition("/")[:2]) not in ours
    ]
    if foreign:
        raise UserError(f"{out.uri}: holds {foreign[0]} already; choose another OUT")
    if CARD not in keys:
        return False  # nothing, or what a killed export left
    try:
        known = json.loads(out.read(FACTS))
    except ValueError as error:
        raise UserError(f"{out.uri}/{FACTS}: is damaged; choose another OUT") from error
    differing = sorted(k for k in known.keys() | described if known.get(k) != described.get(k))
    if differing:
        raise UserError(
            f"{out.uri}: holds another export, which differs in {', '.join(differing)}; choose "
            "another OUT, or delete this one"
        )
    return all(any(key.startswith(file) for key in keys) for file in form.files)


def _put(out: Storage, folder: Path, form: Format) -> None:
    """Copies the files, the one that readers open first last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda one: (one.name == form.files[-1], one)):
        out.write(path.relative_to(folder).as_posix(), path.read_bytes())
