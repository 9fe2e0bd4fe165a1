"""Makes a study from an evaluation: pictures, plans and the owner's key."""

import json
import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_pipeline.images import Image, ImageError, decode_image
from data_pipeline.platform.errors import UserError, differences
from data_pipeline.platform.progress import Progress
from data_pipeline.platform.storage import LocalStorage, Storage, open_storage
from srgan.evaluation.benchmark import Benchmark, Pair, baselines, other_pictures
from srgan.evaluation.run_reader import generator_name, open_run
from srgan.evaluation.score_files import BASELINES, ScoreFile, read_score_files
from srgan.evaluation.score_task import sr_key
from srgan.evaluation.table import BICUBIC, HR, NEAREST, SRGAN, SRRESNET
from srgan.study.crops import CALIBRATION, GOLD, SIDES, ChosenCrops, Crop, choose_crops, crops_of
from srgan.study.files import KEY_FILE, stimulus_key, study_id, whole_folder, write_key
from srgan.study.pictures import stored_png, trap_picture
from srgan.study.plan import FEWEST_CROPS, PLANS, StudyPlan, make_plan
from srgan.study.rater_view import offline_page, page_key
from srgan.study.records import Key, Mode

ABOUT_FILE = "about.json"


class StudySettings(NamedTuple):
    """What the study's owner chooses.

    Attributes:
        mode: See `Key`.
        crops: How many crops are scored.
        side: Of a crop, in pixels; None takes the largest of SIDES that gives enough crops.
        seed: None draws one, which nobody can guess.
        pages: For how many plans there is a page that needs no server.
    """

    mode: Mode
    crops: int
    side: int | None
    seed: int | None
    pages: int


class _Source(NamedTuple):
    """Where the pictures come from.

    Attributes:
        benchmark: HR and LR.
        evaluation: Has SR.
        generators: Their names by method.
        sha256: Of the generators, by name.
    """

    benchmark: Benchmark
    evaluation: Storage
    generators: dict[str, str]
    sha256: dict[str, str]


def make_study(
    benchmark: Benchmark, run_uri: str, study: Path, epoch: int | None, settings: StudySettings
) -> dict[str, Any]:
    """Makes a study, whole or not at all. One that is there already is left as it is.

    Args:
        benchmark: The evaluation's images.
        run_uri: RUN, whose evaluation of these images has the SR images.
        study: Where the study goes; must not exist, or be empty.
        epoch: The epoch of SRGAN; None takes the newest that is evaluated.
        settings: The rest.

    Returns:
        What `about.json` holds: all that a report of the study has to state.

    Raises:
        UserError: If there is no such evaluation, an SR image is gone, the images are too few or
            too small, or there is another study already.
    """
    if settings.crops < FEWEST_CROPS:
        raise UserError(f"--crops {settings.crops}: a study needs at least {FEWEST_CROPS}")
    if not 0 <= settings.pages <= PLANS:
        raise UserError(f"--pages {settings.pages}: pass 0 to {PLANS}, the number of plans")
    source, epoch = _open_source(benchmark, run_uri, epoch)
    about: dict[str, Any] = {
        "evaluation": source.evaluation.uri,
        "epoch": epoch,
        "generators": source.sha256,
        "mode": settings.mode,
        "methods": [NEAREST, BICUBIC, *source.generators, HR],
        "crops": settings.crops,
        "pages": settings.pages,
    }
    if (study / KEY_FILE).exists():
        return _made_before(study, about, settings)
    seed = secrets.randbits(128) if settings.seed is None else settings.seed
    chosen = _choose(source.benchmark, settings, seed)
    plan = make_plan(chosen, about["methods"], settings.mode, seed)
    about |= {
        "crop side": chosen.scored[0].box[2],
        "crop rule": "half of them the most textured (mean square of the Laplacian of HR; first "
        "one of every image), half at random",
        "seed": seed,
        "trials": len(plan.plans[0]),
        "sessions": plan.plans[0][-1].session + 1,
    }
    with whole_folder(study) as folder:
        storage = LocalStorage(folder)
        pictures = _write_pictures(source, chosen, plan, storage)
        where = source.evaluation.uri
        key = Key(settings.mode, where, epoch, source.sha256, plan.stimuli, plan.plans)
        storage.write(ABOUT_FILE, json.dumps(about, indent=1).encode())
        write_key(folder, key)
        for number in range(settings.pages):
            page = offline_page(key, study_id(folder), number, pictures)
            storage.write(page_key(number), page.encode())
    return about


def _open_source(benchmark: Benchmark, run_uri: str, epoch: int | None) -> tuple[_Source, int]:
    run = open_run(run_uri)
    benchmark = benchmark.with_sha256()
    out = open_storage(f"{run.storage.uri}/evaluation/{benchmark.name}")
    files = read_score_files(out)
    epochs = sorted({row.epoch for file in files.values() for row in file.scores if row.epoch})
    if BASELINES not in files or not epochs:
        raise UserError(
            f"{out.uri}: has no evaluated epoch; run jobs.evaluate on these images first"
        )
    if epoch not in (None, *epochs):
        raise UserError(f"{out.uri}: epoch {epoch} is not evaluated; it has {epochs}")
    epoch = epoch or epochs[-1]
    generators = {SRRESNET: SRRESNET} if SRRESNET in files else {}
    generators[SRGAN] = generator_name(epoch)
    for name in generators.values():
        _check_protocol(out, files[name], benchmark)
    sha256 = {name: files[name].generator_sha256 for name in generators.values()}
    return _Source(benchmark, out, generators, sha256), epoch


def _check_protocol(out: Storage, file: ScoreFile, benchmark: Benchmark) -> None:
    if changed := other_pictures(file.protocol, benchmark.protocol()):
        raise UserError(
            f"{out.uri}: is an evaluation of other images ({'; '.join(changed)}); "
            "pass the same --data, --hr, --lr and --kernel as to jobs.evaluate"
        )


def _made_before(study: Path, about: dict[str, Any], settings: StudySettings) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((study / ABOUT_FILE).read_bytes())
    about |= {"seed": settings.seed} if settings.seed is not None else {}
    about |= {"crop side": settings.side} if settings.side is not None else {}
    if changed := differences({key: stored.get(key) for key in about}, about):
        raise UserError(
            f"{study}: is a study of other settings ({'; '.join(changed)}); pass another --out"
        )
    return stored


def _choose(benchmark: Benchmark, settings: StudySettings, seed: int) -> ChosenCrops:
    sides = SIDES if settings.side is None else (settings.side,)
    found: dict[int, list[Crop]] = {side: [] for side in sides}
    with Progress("look for texture", len(benchmark.hr), "images") as progress:
        for number in range(len(benchmark.hr)):
            pair = benchmark.pair(number)
            for side in sides:
                found[side] += crops_of(pair.name, pair.hr, side)
            progress.advance()
    for side in sides:
        if chosen := choose_crops(found[side], settings.crops, random.Random(seed)):  # noqa: S311
            return chosen
    side = sides[-1]
    raise UserError(
        f"--crops {settings.crops}: the images give {len(found[side])} crops of {side} px, and "
        f"{settings.crops + CALIBRATION + GOLD} are needed with those for calibration and gold "
        "questions; pass fewer, or a smaller --crop-size"
    )


def _write_pictures(
    source: _Source, chosen: ChosenCrops, plan: StudyPlan, storage: Storage
) -> dict[str, bytes]:
    """Writes every stimulus; returns the files' bytes by blind name."""
    pictures = {}
    side = chosen.scored[0].box[2]
    numbers = {file.name: number for number, file in enumerate(source.benchmark.hr)}
    images = sorted({one.image for one in plan.stimuli.values()} & numbers.keys())
    with Progress("cut crops", len(images), "images") as progress:
        for image in images:
            pair = source.benchmark.pair(numbers[image])
            wanted = [one for one in plan.stimuli.values() if one.image == image]
            whole = _by_method(source, pair, {one.method for one in wanted})
            for one in wanted:
                crop = Crop(image, one.crop, 0.0).of(whole[one.method])
                pictures[one.name] = stored_png(crop)
            progress.advance()
    for name, text in plan.traps.items():
        pictures[name] = stored_png(trap_picture(text, side))
    for name, data in pictures.items():
        storage.write(stimulus_key(name), data)
    return pictures


def _by_method(source: _Source, pair: Pair, methods: set[str]) -> dict[str, Image]:
    whole = baselines(pair, source.benchmark.kernel) | {HR: pair.hr}
    for method, generator in source.generators.items():
        if method in methods:
            whole[method] = _stored_sr(source.evaluation, sr_key(generator, pair.name), pair)
    return whole


def _stored_sr(evaluation: Storage, key: str, pair: Pair) -> Image:
    where = f"{evaluation.uri}/{key}"
    fix = "delete scores/ there and run jobs.evaluate again"
    try:
        image = decode_image(evaluation.read(key))
    except FileNotFoundError as error:
        raise UserError(f"{where}: is gone; {fix}") from error
    except ImageError as error:
        raise UserError(f"{where}: {error}; {fix}") from error
    if image.shape[:2] != pair.hr.shape[:2]:
        raise UserError(f"{where}: has another size than HR; {fix}")
    return image


def describe(about: dict[str, Any]) -> Sequence[str]:
    """What the owner reads after a study was made."""
    sessions = f"{about['sessions']} session{'s' if about['sessions'] > 1 else ''}"
    return [
        f"{about['crops']} crops of {about['crop side']}x{about['crop side']} px by "
        f"{', '.join(about['methods'])} (epoch {about['epoch']})",
        f"{about['trials']} trials a rater in {sessions} of at most 10 minutes",
    ]
