"""README and docs name only what exists: links, files, commands, options, messages, figures."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from srgan.config import Config, PhaseConfig

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md"] + [
    str(path.relative_to(ROOT))
    for pattern in ("docs/*.md", "deploy/*/README.md")
    for path in sorted(ROOT.glob(pattern))
]
MODULES = [
    path.relative_to(ROOT)
    for package in ("jobs", "srgan", "data_pipeline")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
]
FOREIGN_OPTIONS = {"--build-arg", "--gpus", "--working-dir", "--create-bucket-configuration"}

on_every_page = pytest.mark.parametrize("page", PAGES)


@cache
def read(path: str | Path) -> str:
    return (ROOT / path).read_text()


def blocks(page: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", read(page), re.DOTALL)


def prose(page: str) -> str:
    return re.sub(r"```\n.*?```", "", read(page), flags=re.DOTALL)


def code(page: str) -> list[str]:
    """Lines of a page's blocks, continued ones joined, and what stands between backticks."""
    lines = "".join(blocks(page)).replace("\\\n", " ").splitlines()
    return [*lines, *re.findall(r"`([^`]+)`", prose(page).replace("\\|", "|"))]


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 130


@on_every_page
def test_links_lead_to_files_and_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", read(page)):
        file = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert file.exists(), target
        if anchor:  # as GitHub makes them from headings
            headings = re.findall(r"^#+ (.*)$", prose(str(file.relative_to(ROOT))), re.M)
            found = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
            assert anchor in found, f"{target}#{anchor}"


@on_every_page
def test_files_exist(page):
    folders = "jobs|srgan|data_pipeline|benchmarks|configs|deploy|docs|tests"
    for span in code(page):
        for word in re.findall(rf"(?<![\w/.~-])(?:{folders})/[\w./-]*", span):
            assert (ROOT / word).exists(), span


@on_every_page
def test_make_targets_exist(page):
    targets = set(" ".join(re.findall(r"^([a-z -]+):", read("Makefile"), re.M)).split())
    for span in code(page):
        for target in re.findall(r"^make (?:[A-Z]+=\S+ )*([\w.-]+)", span):
            assert target in targets or target.endswith("..."), span


def options(job: str) -> set[str]:
    return set(re.findall(r'"(--[a-z-]+)"', read(f"jobs/{job}.py")))


def settings(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted keys of the configuration, its sections too."""
    found = {prefix + name for name in model.model_fields}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= settings(field.annotation, f"{prefix}{name}.")
    return found


@on_every_page
def test_options_and_settings_exist(page):
    jobs = ("prepare", "train", "evaluate", "upscale", "export", "study")
    all_options = FOREIGN_OPTIONS.union(*map(options, jobs))
    all_settings = settings(Config) | settings(PhaseConfig, "phases.NAME.")
    for span in code(page):
        given = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", span))
        for job in re.findall(r"(?:-m jobs\.|make submit-)(\w+)", span):
            ours = span.split(job, 1)[1]
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ours)) <= options(job), span
        if span.startswith("--"):
            assert given <= all_options, span
        for key in re.findall(r"(?:--set '?|^)([a-z_]+(?:\.\w+)+|[a-z_]+(?==))", span):
            if key.split(".")[0] in Config.model_fields:
                assert re.sub(r"^phases\.\w+", "phases.NAME", key) in all_settings, span


def test_the_map_names_every_module():
    """A file without a folder lies in the folder that its line named before it."""
    named = set()
    for line in read("docs/architecture.md").splitlines():
        folder = Path()
        for word in re.findall(r"[\w/]+/(?!\w)|[\w/]+\.(?:py|html\.j2)", line):
            if "/" in word:
                folder = Path(word) if word.endswith("/") else Path(word).parent
            if not word.endswith("/"):
                assert (ROOT / folder / Path(word).name).exists(), line
                named.add(folder / Path(word).name)
    assert set(MODULES) <= named


def test_names_on_the_map_are_in_their_files():
    rows = re.findall(r"`([\w/]+\.py)` \(([^)]*)\)", read("docs/architecture.md"))
    assert len(rows) > 10
    for file, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b(def|class) {name}\b", read(file)), (file, name)


def test_imports_run_as_drawn():
    rows = re.findall(r"^\| `([\w/]+)` \| (.*)\|$", read("docs/architecture.md"), re.M)
    drawn = {folder: set(re.findall(r"`([\w/]+)`", others)) for folder, others in rows}
    found: dict[str, set[str]] = {folder: set() for folder in drawn}
    for module in MODULES:
        for node in ast.walk(ast.parse(read(module))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            paths = [Path(name.replace(".", "/")) for name in names]
            found[folder_of(module)] |= {
                folder_of(path)
                for one in paths
                for path in (one.with_suffix(".py"), one / "__init__.py")
                if (ROOT / path).exists()
            }
    assert {folder: others - {folder} for folder, others in found.items()} == drawn


def folder_of(module: Path) -> str:
    """A module's folder; what is below platform counts as platform."""
    return re.sub(r"(platform)/.*", r"\1", str(module.parent))


def test_the_runbook_quotes_messages_of_the_code():
    section = read("docs/runbook.md").split("### Errors of the jobs")[1].split("###")[0]
    sources = re.sub(r"\"\s*\n\s*f?\"", "", "".join(map(read, MODULES)))  # joins split strings
    messages = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.M)))
    assert len(messages) > 20
    for message in messages:
        for part in re.split(r"\.{3}|\b[A-Z_]{3,}\b|\d+|\w+\.json", message):
            assert part.strip(" :;(),") in sources, message


DEMO_METHODS = {
    "nearest": "nearest",
    "bicubic": "bicubic",
    "srresnet": "SRResNet",
    "srgan": "SRGAN",
}


def figures():
    demo, prepare, loader, evaluate, baselines = (
        json.loads(read(f"benchmarks/results/{name}.json"))
        for name in ("demo", "prepare", "loader", "evaluate", "baselines")
    )
    for method, title in DEMO_METHODS.items():
        one = demo["table"][method]
        numbers = f"{one['psnr_rgb']:.2f} | {one['psnr_y']:.2f} | {one['ssim_y']:.4f}"
        yield "README.md", f"| {title} | {numbers} | {one['lpips']:.4f} | {one['grid']:.2f} |"
    yield "README.md", f"{demo['demo_seconds']} s after the set-up"
    yield "README.md", f"{demo['training_seconds']} s were"
    for name in ("Set5", "Set14"):
        yield "README.md", f"{baselines[name]['bicubic']['psnr_y']:.2f} dB on {name}"
    rates = [(prepare[name], "pairs_per_second") for name in ("arrow", "tfrecord")]
    rates += [(loader[name], "crops_per_second") for name in ("arrow", "arrow_10x_shards")]
    for one, rate in (*rates, (loader["tfrecord"], "crops_per_second")):
        times = f"{one['times_usual']:.{1 if one['times_usual'] < 10 else 0}f}"
        yield "docs/prepare.md", f"| {times} | {int(float(f'{one[rate]:.3g}')):,} |"
    whole, thousand = prepare["arrow_div2k"], loader["open_1000_shards"]
    yield "docs/prepare.md", f"{whole['train_gigabytes']:.1f} GB of shards"
    yield "docs/prepare.md", f"{whole['valid_gigabytes']:.1f} GB of validation images"
    seconds = thousand["manifest_seconds"] + thousand["first_batch_seconds"]
    yield "docs/prepare.md", f"| {seconds:.1f} s |"
    upscale = json.loads(read("benchmarks/results/upscale.json"))
    memory = f"at most {upscale['job_peak_megabytes'] / 1000:.1f} GB"
    for page in ("README.md", "docs/upscale.md"):
        yield page, f"in {int(upscale['job_seconds'])} s, with {memory}"
    paper = json.loads(read("benchmarks/results/upscale_paper.json"))
    yield "docs/upscale.md", f"in {int(paper['job_seconds'])} s, with at most"
    yield "docs/upscale.md", f"{paper['job_peak_megabytes'] / 1000:.1f} GB (`benchmarks"
    keras = upscale["keras"]
    for engine, title in (("saved_model", "SavedModel"), ("onnx", "ONNX"), ("torch", "PyTorch")):
        times = upscale[engine]["megapixels_per_second"] / keras["megapixels_per_second"]
        memory = upscale[engine]["peak_megabytes"] / keras["peak_megabytes"]
        yield "docs/upscale.md", f"| {title} | {times:.2f} | {memory:.1f} |"
    yield "docs/evaluate.md", f"{evaluate['other_over_generator']:.0%}".replace("%", " %")
    yield "docs/evaluate.md", f"{evaluate['baselines_seconds']:.0f} s in all"
    yield "docs/evaluate.md", f"{evaluate['large_image_peak_megabytes'] / 1000:.1f} GB"


def figures_of_colour_fix():
    result = json.loads(read("benchmarks/results/colour_fix.json"))
    for name in ("Set5", "Set14"):
        before, after = result[name]["none"]["lr_psnr"], result[name]["1"]["lr_psnr"]
        yield "docs/upscale.md", f"from {before:.2f} to {after:.2f} dB on {name}"


def figures_of_recipes():
    """What was measured while the recipe was looked for."""
    page, result = "docs/recipes.md", json.loads(read("benchmarks/results/recipes.json"))

    def pair(values, digits):
        return " → ".join(f"{value:.{digits}f}" for value in values) or "–"

    for one in result["options"]:
        seeds = f", {one['seeds']} seeds" if "seeds" in one else ""
        cells = [one["option"], one["against"], one["on"] + seeds, pair(one["psnr"], 2)]
        cells += [pair(one["lpips"], 3), pair(one.get("grid", []), 2), one["kept"]]
        yield page, f"| {' | '.join(cells)} |"
    for name, times in result["step_milliseconds"].items():
        if name != "about":
            yield page, f"{times['direct']} ms in place of {times['stages']} ms"
    lpips = result["lpips_step_milliseconds"]
    yield page, f"{lpips['mixed_bfloat16']} ms of a core in place of {lpips['float32']} ms"
    yield page, f"LPIPS {result['samples_bicubic_lpips']}"
    before, after = result["demo_grid_with_drop"].values()
    yield page, f"from {before} to {after}"


def figures_of_studies():
    page, result = "docs/study.md", json.loads(read("benchmarks/results/opinion_study.json"))
    for crops, widths in result["half_widths"].items():
        fewest = result["raters_for_0_2"][crops]
        cells = [f"±{width:.2f}" for width in widths.values()] + [str(fewest)]
        yield page, f"| {crops} | {' | '.join(cells)} |"
    shares = [one["all"] for one in result["held"].values()]
    yield page, f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"


def figures_of_quality():
    page, result = "docs/recipes.md", json.loads(read("benchmarks/results/quality.json"))
    seeds, sets = result["seeds"], ("Set5", "Set14")
    measures = (("psnr_y", 2), ("lpips", 3), ("grid", 2))

    def values(name, method, measure):
        return [seed["scores"][name][method][measure] for seed in seeds]

    for method in ("srresnet", "srgan"):
        cells = [
            mean_and_half(values(name, method, measure), digits)
            for name in sets
            for measure, digits in measures
        ]
        yield page, f" steps | {' | '.join(cells)} |"
        yield "configs/recommended.yaml", f"{np.mean(values('Set5', method, 'psnr_y')):.2f} dB"
    for title, name in (("HR", "d_hr"), ("SR", "d_sr")):
        low, high = zip(*(seed[name] for seed in seeds), strict=True)
        yield page, f"D({title}) from {min(low):.2f} to {max(high):.2f}"
    yield page, f"took {result['cpu_minutes']} minutes of"


def mean_and_half(values, digits=2):
    """As the tables of several seeds say it: half of what lies between highest and lowest."""
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def figures_of_rivals():
    """Means of three seeds, and half of what lies between the highest and the lowest."""
    page = "docs/recipes.md"
    runs = json.loads(read("benchmarks/results/recipes.json"))["candidates"]["runs"]

    def answers(pairs):
        return f"{min(low for low, _ in pairs):.2f} to {max(high for _, high in pairs):.2f}"

    for name, run in runs.items():
        *_, last = run["scores"].values()
        if name.startswith("short"):
            cells = [mean_and_half(one["psnr_y"]) for one in run["scores"].values()]
        elif name.startswith("grid") and not name.endswith(("tanh", "calls")):
            cells = [mean_and_half(one["grid"]) for one in run["scores"].values()] + [
                mean_and_half(last["lpips"], 3)
            ]
        elif "d_hr" in run or run["steps"] == 8000:
            cells = [
                mean_and_half(last["psnr_y"]),
                mean_and_half(last["lpips"], 3),
                mean_and_half(last["grid"]),
            ]
            cells += [answers(run[key]) for key in ("d_hr", "d_sr") if key in run]
        else:  # in sentences
            yield page, mean_and_half(last["grid"])
            if name in ("pretrain, ICNR", "pretrain, 20 calls"):
                yield page, mean_and_half(last["psnr_y"])
                yield page, mean_and_half(last["lpips"], 3)
            continue
        yield page, f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(
    ("page", "figure"),
    [
        *figures(),
        *figures_of_colour_fix(),
        *figures_of_recipes(),
        *figures_of_quality(),
        *figures_of_rivals(),
        *figures_of_studies(),
    ],
)
def test_figures_come_from_the_benchmarks(page, figure):
    assert figure in read(page)
