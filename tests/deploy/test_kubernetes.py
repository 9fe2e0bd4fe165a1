"""The Kubernetes manifests: valid, careful with rights, and with commands that the jobs accept."""

import copy
import importlib
import inspect
import json
import re
import shlex
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import ray
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

from srgan.config_file import load_config
from tests.conftest import ROOT
from tests.deploy.autoscaler import CPU_TASK, TRAINING_WORKER, launched
from tests.deploy.yaml_files import read_yaml

FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.33"
KUBERAY = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())
CRON, CLUSTER, JOB = "nightly-cronjob.yaml", "raycluster.yaml", "train-rayjob.yaml"


def manifest(name):
    """A copy without shared parts: an anchor's object can be changed in one place alone."""
    return json.loads(json.dumps(read_yaml((FOLDER / name).read_text())))


def cluster_spec(document):
    return document["spec"].get("rayClusterSpec", document["spec"])


def pod_templates(document):
    """All pod templates of a manifest, by what they are for."""
    if document["kind"] == "CronJob":
        return {"submit": document["spec"]["jobTemplate"]["spec"]["template"]}
    cluster = cluster_spec(document)
    templates = {"head": cluster["headGroupSpec"]["template"]}
    for group in cluster["workerGroupSpecs"]:
        templates[group["groupName"]] = group["template"]
    if "submitterPodTemplate" in document["spec"]:
        templates["submitter"] = document["spec"]["submitterPodTemplate"]
    return templates


def validate(document):
    if document["kind"] == "CronJob":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    else:
        jsonschema.Draft202012Validator(KUBERAY).validate(document)
    for name, template in pod_templates(document).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}} | template
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


ALL_PODS = [
    pytest.param(file, name, id=f"{file}-{name}")
    for file in (CRON, CLUSTER, JOB)
    for name in pod_templates(manifest(file))
]
pods = pytest.mark.parametrize(("file", "name"), ALL_PODS)


def test_the_files_are_these():
    assert sorted(path.name for path in FOLDER.glob("*.yaml")) == sorted([CRON, CLUSTER, JOB])
    jsonschema.Draft202012Validator.check_schema(KUBERAY)


@pytest.mark.parametrize("file", [CRON, CLUSTER, JOB])
def test_valid(file):
    validate(manifest(file))


def put(document, path, value):
    *parents, last = path
    for key in parents:
        document = document[key]
    document[last] = value


HEAD = ("spec", "rayClusterSpec", "headGroupSpec")
GROUP = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
POD = ("template", "spec")
CRON_POD = ("spec", "jobTemplate", "spec", "template", "spec")


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        (CRON, ("spec", "concurencyPolicy"), "Forbid"),
        (CRON, ("spec", "jobTemplate", "spec", "backofLimit"), 0),
        (CRON, (*CRON_POD, "restartpolicy"), "Never"),
        (CRON, (*CRON_POD, "containers", 0, "resources", "limit"), {"cpu": "1"}),
        (JOB, ("spec", "ttlSecondsAfterFinish"), 1),
        (JOB, ("spec", "shutdownAfterJobFinishes"), False),
        (JOB, ("spec", "submissionMode"), "K8sJob"),
        (JOB, ("spec", "rayClusterSpec", "enableIntreeAutoscaling"), True),
        (JOB, ("spec", "rayClusterSpec", "authOptions", "mode"), "Token"),
        (JOB, (*HEAD, "rayStartParams", "num-gpus"), 0),
        (JOB, (*GROUP, "minReplica"), 1),
        (JOB, (*GROUP, *POD, "terminationGracePeriod"), 10),
        (JOB, (*GROUP, *POD, "containers", 0, "securityContext", "runAsNonroot"), True),
        (JOB, (*GROUP, *POD, "volumes", 0, "emptyDir", "size"), "1Gi"),
        (JOB, ("spec", "submitterPodTemplate", "spec", "containers", 0, "img"), "x"),
        (CLUSTER, ("spec", "entrypoint"), "python -m jobs.train"),
        (CLUSTER, ("spec", "headGroupSpec", *POD, "containers", 0, "env", 0, "valuesFrom"), {}),
        (CLUSTER, ("apiVersion",), "ray.io/v1alpha1"),
    ],
)
def test_a_wrong_key_or_value_is_found(file, path, value):
    document = manifest(file)
    put(document, path, value)
    with pytest.raises(jsonschema.ValidationError):
        validate(document)


@pods
def test_pods_have_few_rights(file, name):
    pod = pod_templates(manifest(file))[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPath" not in volume for volume in pod["volumes"])
    assert pod["imagePullSecrets"] == [{"name": "srgan-registry"}]
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        # With a read-only root, what Ray, matplotlib and the cache write to has to be mounted.
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
        assert set(mounts.values()) == volumes.keys()
        assert {"/tmp", "/home/ray"} <= mounts.keys()
        assert all("sizeLimit" in volume for volume in volumes.values())
        if name not in ("submit", "submitter"):
            assert volumes[mounts["/dev/shm"]]["medium"] == "Memory"
            assert "medium" not in volumes[mounts["/cache"]]
    # Only the autoscaler, on the head, talks to Kubernetes.
    if (file, name) != (CLUSTER, "head"):
        assert pod["automountServiceAccountToken"] is False


@pods
def test_pods_have_requests_and_limits(file, name):
    for container in pod_templates(manifest(file))[name]["spec"]["containers"]:
        resources = container["resources"]
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= resources[kind].keys()
        gpus = resources["limits"].get("nvidia.com/gpu")
        assert gpus == resources["requests"].get("nvidia.com/gpu")
        assert (gpus is not None) == (name == "gpu")
        # CPU pods take the image without CUDA.
        assert container["image"].endswith("-gpu" if gpus else "-cpu")
        assert container["image"].split(":")[1].startswith("0.1.0")


@pods
def test_secrets_are_references(file, name):
    for container in pod_templates(manifest(file))[name]["spec"]["containers"]:
        for variable in container.get("env", []):
            if re.search("KEY|SECRET|TOKEN|PASSWORD", variable["name"]):
                assert variable.keys() == {"name", "valueFrom"}
                assert variable["valueFrom"].keys() == {"secretKeyRef"}


def test_no_literal_secret_in_any_file():
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert not re.search(r"AKIA[A-Z0-9]{16}|ASIA[A-Z0-9]{16}|BEGIN [A-Z ]*PRIVATE KEY", text)
        assert not re.search(r"kind: Secret\b", text)


@pytest.mark.parametrize("file", [CLUSTER, JOB])
def test_clusters(file):
    spec = cluster_spec(manifest(file))
    assert spec["rayVersion"] == ray.__version__
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    for template in pod_templates(manifest(file)).values():
        for container in template["spec"]["containers"]:
            if container["name"] not in ("ray-head", "ray-worker"):
                continue
            # Time to save: what Ray is told is left of the grace period.
            grace = template["spec"]["terminationGracePeriodSeconds"]
            hook = " ".join(container["lifecycle"]["preStop"]["exec"]["command"])
            assert int(re.search(r"(?:^sleep|remaining-seconds) (\d+)", hook)[1]) < grace


def test_the_cluster_that_stays_starts_pods_for_the_work_that_there_is():
    document = manifest(CLUSTER)
    document["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(document)  # as Ray's autoscaler reads it
    nodes = config["available_node_types"]
    assert nodes["gpu"]["min_workers"] == nodes["cpu"]["min_workers"] == 0
    assert all(group["replicas"] == 0 for group in document["spec"]["workerGroupSpecs"])
    for name in ("headgroup", "cpu"):
        assert nodes[name]["resources"]["cpu_node"] == nodes[name]["resources"]["CPU"]
    assert launched(config, CPU_TASK, 3) == {}  # the head has room
    assert launched(config, CPU_TASK, 1000) == {"cpu": 2}  # and no GPU pod
    assert launched(config, TRAINING_WORKER, 2) == {"gpu": 2}


def test_the_rayjob_cleans_up_and_lets_a_stopped_run_save():
    document = manifest(JOB)
    spec = document["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert 0 < spec["ttlSecondsAfterFinished"] <= 3600
    assert "backoffLimit" in spec
    variables = read_yaml(spec["runtimeEnvYAML"])["env_vars"]
    assert variables["RAY_JOB_STOP_SIGNAL"] == "SIGTERM"
    seconds = int(variables["RAY_JOB_STOP_WAIT_TIME_S"])
    head = pod_templates(document)["head"]["spec"]
    assert 60 <= seconds <= head["terminationGracePeriodSeconds"]
    # The run asks for all GPUs that the cluster has.
    words = shlex.split(spec["entrypoint"])
    group = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    workers, gpus = (
        int(words[words.index(f"--{name}") + 1]) for name in ("num-workers", "gpus-per-worker")
    )
    assert workers * gpus == group["replicas"] * int(limits["nvidia.com/gpu"])
    assert not {"entrypointNumGpus", "entrypointNumCpus"} & spec.keys()


def test_the_cronjob_never_runs_twice_and_ends():
    document = manifest(CRON)
    spec = document["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"(\S+ ){4}\S+", spec["schedule"])
    assert 60 <= spec["startingDeadlineSeconds"] <= 6 * 3600
    assert spec["failedJobsHistoryLimit"] >= 1
    assert spec["successfulJobsHistoryLimit"] >= 1
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
    pod = pod_templates(document)["submit"]["spec"]
    assert pod["restartPolicy"] == "Never"
    # It submits to the cluster of raycluster.yaml, with the token that KubeRay makes for that one.
    name = manifest(CLUSTER)["metadata"]["name"]
    container = pod["containers"][0]
    words = container["command"]
    assert words[words.index("--address") + 1] == f"http://{name}-head-svc:8265"
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    assert environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == name


def job_commands():
    """Every job of the manifests and their README: its module and arguments.

    They are started by `python -m jobs.X ...`, `deploy/submit.py [--address URL] X ...` or
    `make submit-X ARGS="..."`.
    """
    entrypoint = manifest(JOB)["spec"]["entrypoint"]
    nightly = pod_templates(manifest(CRON))["submit"]["spec"]["containers"][0]["command"]
    start = re.compile(
        r'(?:-m jobs\.|submit\.py (?:--address \S+ )?|submit-)(\w+) (?:ARGS=")?([^"]+)'
    )
    found = []
    for line in (entrypoint, shlex.join(nightly), *(FOLDER / "README.md").read_text().splitlines()):
        if match := start.search(line):
            found.append([f"jobs.{match[1]}", *shlex.split(match[2])])
    return found


class _ReachedError(Exception):
    pass


def call_until_the_work_begins(monkeypatch, module, arguments):
    """Runs a job's main up to the first call into srgan or data_pipeline."""

    def stop(*_, **__):
        raise _ReachedError

    job = importlib.import_module(module)
    for name, value in list(vars(job).items()):
        if inspect.isfunction(value) and value.__module__.startswith(("srgan.", "data_pipeline.")):
            monkeypatch.setattr(job, name, stop)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    job.main()


def test_the_commands_are_found():
    modules = [words[0] for words in job_commands()]
    assert sorted(modules) == ["jobs.evaluate", "jobs.evaluate", "jobs.prepare", "jobs.train"]


@pytest.mark.parametrize("words", job_commands(), ids=" ".join)
def test_commands_are_accepted(monkeypatch, words):
    with pytest.raises(_ReachedError):
        call_until_the_work_begins(monkeypatch, words[0], words[1:])
    if "--config" in words:
        config = words[words.index("--config") + 1]
        load_config(ROOT / config.removeprefix("/opt/srgan/"), [])


@pytest.mark.parametrize("words", job_commands(), ids=" ".join)
def test_a_wrong_option_is_found(monkeypatch, capsys, words):
    wrong = copy.copy(words)
    wrong[next(i for i, word in enumerate(wrong) if word.startswith("--"))] += "x"
    with pytest.raises(SystemExit) as stop:
        call_until_the_work_begins(monkeypatch, wrong[0], wrong[1:])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
