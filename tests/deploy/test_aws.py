"""cluster.yaml and the IAM policies: what Ray makes of them, against a simulated EC2."""

import copy
import json
import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import boto3
import botocore.session
import jsonschema
import pytest
import ray.autoscaler
from moto import mock_aws
from ray.autoscaler._private.aws import utils as aws_utils
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.docker import docker_start_cmds
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
    CloudResourceMonitor,
)
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

from tests.conftest import ROOT
from tests.deploy.autoscaler import CPU_TASK, TRAINING_WORKER, launched
from tests.deploy.yaml_files import read_yaml

CLUSTER = ROOT / "cluster.yaml"
POLICIES = ROOT / "deploy" / "aws"

# All that the code calls on a bucket, in IAM's words. HeadObject is GetObject there, HeadBucket is
# ListBucket, DeleteObjects is DeleteObject, and all parts of an upload but its end are PutObject.
S3_ACTIONS = frozenset(
    {
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:PutObject",
    }
)
BUCKET_ACTIONS = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}

PAIRS = [("gpu_spot", "gpu_on_demand"), ("one_gpu_spot", "one_gpu_on_demand")]
GPU_WORKERS = [name for pair in PAIRS for name in pair]
WORKERS = ["cpu_spot", *GPU_WORKERS]

# What instances are found to have.
FOUND = {
    "m6i.2xlarge": {"CPU": 8, "memory": 20 << 30},
    "c7i.4xlarge": {"CPU": 16, "memory": 20 << 30},
    "g5.2xlarge": {"CPU": 8, "GPU": 1, "memory": 20 << 30, "accelerator_type:A10G": 1},
    "g5.12xlarge": {"CPU": 48, "GPU": 4, "memory": 130 << 30, "accelerator_type:A10G": 4},
}


@pytest.fixture
def config() -> dict:
    return read_yaml(CLUSTER.read_text())


def _statements(name: str) -> list[dict]:
    return json.loads((POLICIES / name).read_text())["Statement"]


def _list(value) -> list:
    return [value] if isinstance(value, str) else value


def _actions(statements: list[dict]) -> set[str]:
    return {action for statement in statements for action in _list(statement["Action"])}


# The file


def test_ray_accepts_the_file(config):
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    jsonschema.validate(config, json.loads(schema.read_text()))
    prepared = prepare_config(config)
    validate_config(prepared)
    # The defaults would install another Ray and open the dashboard.
    commands = [command for key, value in prepared.items() if "command" in key for command in value]
    assert not [command for command in commands if "pip install" in command]
    assert not [command for command in commands if "0.0.0.0" in command]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "min_worker"),
        (("docker",), "images"),
        (("auth",), "user"),
        (("available_node_types", "gpu_spot"), "min_worker"),
        (("available_node_types", "gpu_spot", "docker"), "run_options"),
    ],
)
def test_a_wrong_key_is_refused(config, path, key):
    place = config
    for name in path:
        place = place[name]
    place[key] = "1"
    with pytest.raises(jsonschema.ValidationError, match=key):
        validate_config(prepare_config(config))


def test_what_must_be_changed_stands_at_the_top():
    text = CLUSTER.read_text()
    block, rest = re.search(r"^metadata:.*?\n(?=\S)(?=.)", text, re.S | re.M).group(), text
    rest = text.replace(block, "")
    assert "CHANGE" not in rest
    for name in re.findall(r"&(\w+) ", block):
        assert re.search(rf"\*{name}\b", rest), f"{name} is used nowhere"
    values = read_yaml(block)["metadata"]
    assert block.count("CHANGE:") == len(values)
    # Nothing that could start something of somebody else's by mistake.
    assert values["ami"].strip("ami-0") == ""
    assert "REGISTRY" in values["image"]
    assert "REGISTRY" in values["head_image"]


def test_regions_agree(config):
    files = [CLUSTER, *(ROOT / "deploy").rglob("*.*"), ROOT / "docs" / "runbook.md"]
    texts = [path.read_text() for path in files if path.suffix in (".yaml", ".md", ".json")]
    found = re.findall(r"\b[a-z]{2}-(?:north|south|east|west|central)+-\d\b", " ".join(texts))
    assert set(found) == {config["provider"]["region"]}
    assert len(found) > 5
    zone = config["provider"]["availability_zone"]
    assert re.fullmatch(
        rf"{config['provider']['region']}[a-z]", zone
    )  # one: traffic between is paid


def test_no_secrets_and_nothing_open_to_the_world():
    for path in [CLUSTER, *POLICIES.glob("*.*")]:
        text = path.read_text()
        assert not re.search(r"AKIA|ASIA|SECRET_ACCESS_KEY|SESSION_TOKEN|BEGIN .*KEY", text), path
        assert not re.search(r"0\.0\.0\.0|::/0", text), path
        assert not re.search(r"\b(?!0{12}|1{12})\d{12}\b", text), f"{path}: an account's number"
    assert "dashboard-host" not in CLUSTER.read_text()


def test_every_node_asks_for_the_token_of_the_machine_that_starts_the_cluster(config):
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    command = _docker_command(config)
    assert "-e RAY_AUTH_MODE=token" in command
    assert ":/home/ray/.ray/auth_token " in command


# The nodes


def _docker_command(config: dict) -> str:
    return docker_start_cmds(
        user="ubuntu",
        image=config["docker"]["image"],
        mount_dict=config["file_mounts"],
        container_name=config["docker"]["container_name"],
        user_options=config["docker"]["run_options"],
        cluster_name=config["cluster_name"],
        home_directory="/home/somebody",
        docker_cmd="docker",
    )


@pytest.mark.parametrize("name", ["head", *WORKERS])
def test_every_node_is_closed_and_its_costs_are_told_apart(config, name):
    node = config["available_node_types"][name]["node_config"]
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["MetadataOptions"]["HttpEndpoint"] == "enabled"
    for disk in node["BlockDeviceMappings"]:
        assert disk["Ebs"]["Encrypted"] is True
        assert disk["Ebs"]["VolumeType"] == "gp3"
        assert disk["Ebs"]["DeleteOnTermination"] is True
    assert {spec["ResourceType"] for spec in node["TagSpecifications"]} == {"instance", "volume"}
    for spec in node["TagSpecifications"]:
        assert {"project", "owner"} <= {tag["Key"] for tag in spec["Tags"]}
    # Without these Ray makes a group open to the world, or takes an old image.
    assert node["SecurityGroupIds"]
    assert node["ImageId"]
    profile = "srgan-head" if name == "head" else "srgan-worker"
    assert node["IamInstanceProfile"] == {"Name": profile}


def test_credentials_reach_the_container_over_one_hop(config):
    """Ray's containers use the host's network, so that nothing farther away may ask."""
    assert "--net=host" in _docker_command(config)
    for node in config["available_node_types"].values():
        assert node["node_config"]["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def test_the_head_has_no_gpu_and_workers_come_and_go(config):
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    assert head["resources"]["GPU"] == 0
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert not re.match(r"(p|g)\d", head["node_config"]["InstanceType"])
    assert any("--head" in c and "--num-gpus=0" in c for c in config["head_start_ray_commands"])
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False
    for name in WORKERS:
        assert types[name]["min_workers"] == 0
        assert 0 < types[name]["max_workers"] <= config["max_workers"]
        gpus = types[name]["node_config"]["InstanceType"].startswith("g")
        docker = {"worker_run_options": ["--gpus all"]} if gpus else {"worker_image": "cpu"}
        assert types[name]["docker"].keys() == docker.keys()
        assert gpus != ("cpu_node" in types[name]["resources"])
    assert types["cpu_spot"]["docker"]["worker_image"] == config["docker"]["head_image"]
    ssh = set(head["node_config"]["SecurityGroupIds"])
    assert len(ssh - set(types["gpu_spot"]["node_config"]["SecurityGroupIds"])) == 1


@pytest.mark.parametrize("pair", PAIRS)
def test_spot_and_on_demand_differ_in_nothing_else(config, pair):
    spot, on_demand = (copy.deepcopy(config["available_node_types"][name]) for name in pair)
    assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot.pop("priority") > on_demand.pop("priority")
    assert spot == on_demand


# Ray's autoscaler


def _launched(config: dict, asked: dict, count: int, **options) -> dict[str, int]:
    for node in config["available_node_types"].values():
        node["resources"] = FOUND[node["node_config"]["InstanceType"]] | node["resources"]
    return launched(prepare_config(config), asked, count, **options)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"one_gpu_spot": 1}),
        (2, {"one_gpu_spot": 2}),
        (4, {"gpu_spot": 1}),
        (8, {"gpu_spot": 2}),
        (9, {"gpu_spot": 2, "one_gpu_spot": 1}),
        (12, {"gpu_spot": 2, "gpu_on_demand": 1}),
    ],
)
def test_trainings_get_the_nodes_that_they_fill_spot_first(config, count, expected):
    assert _launched(config, TRAINING_WORKER, count) == expected


def test_two_workers_share_a_node_where_the_small_ones_are_left_out(config):
    for name in ("one_gpu_spot", "one_gpu_on_demand"):
        config["available_node_types"][name]["max_workers"] = 0
    assert _launched(config, TRAINING_WORKER, 2) == {"gpu_spot": 1}


def test_no_task_on_cpus_starts_a_gpu_node(config):
    """However many wait. A task that asks for CPUs alone would, once the CPU nodes are there."""
    nodes = config["available_node_types"]
    for name in ("head", "cpu_spot"):
        instance = nodes[name]["node_config"]["InstanceType"]
        assert nodes[name]["resources"]["cpu_node"] == FOUND[instance]["CPU"]
    assert _launched(copy.deepcopy(config), CPU_TASK, 8) == {}  # the head has room
    assert _launched(copy.deepcopy(config), CPU_TASK, 9) == {"cpu_spot": 1}
    assert _launched(copy.deepcopy(config), CPU_TASK, 1000) == {"cpu_spot": 4}
    assert _launched(config, {"CPU": 1}, 1000).keys() > {"cpu_spot"}


def test_on_demand_fills_what_spot_may_not(config):
    for most, expected in ((1, {"gpu_spot": 1, "gpu_on_demand": 1}), (0, {"gpu_on_demand": 2})):
        one = copy.deepcopy(config)
        one["available_node_types"]["gpu_spot"]["max_workers"] = most
        assert _launched(one, TRAINING_WORKER, 8) == expected


def test_a_refused_spot_launch_is_asked_again(config):
    """What cluster.yaml warns of; if Ray has learnt better, fix its comment and the runbook."""
    monitor = CloudResourceMonitor()
    refused = InstanceUpdateEvent(
        instance_type="gpu_spot", new_instance_status=Instance.ALLOCATION_FAILED
    )
    monitor.notify([refused])
    assert _launched(config, TRAINING_WORKER, 4, monitor=monitor) == {"gpu_spot": 1}


class _Reader:
    def __init__(self, config: dict) -> None:
        self._config = AutoscalingConfig(config, skip_content_hash=True)

    def get_cached_autoscaling_config(self) -> AutoscalingConfig:
        return self._config


@contextmanager
def _recorded_calls(monkeypatch):
    """Names of all AWS calls of clients made inside, with their arguments."""
    calls: list[tuple[str, str, dict]] = []

    def record(params, model, **_):
        body = params.get("body", {})
        calls.append((model.service_model.service_name, model.name, body))

    real = botocore.session.Session.create_client

    def create_client(self, *args, **kwargs):
        client = real(self, *args, **kwargs)
        client.meta.events.register("before-call", record)
        return client

    with monkeypatch.context() as patch:
        patch.setattr(botocore.session.Session, "create_client", create_client)
        yield calls


@pytest.fixture
def account(config, monkeypatch, tmp_path):
    """A simulated account after the steps of deploy/aws/README.md, and the file filled in."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("HOME", str(tmp_path))
    aws_utils.resource_cache.cache_clear()
    aws_utils.client_cache.cache_clear()
    with mock_aws():
        ec2 = boto3.client("ec2", "us-east-1")
        iam = boto3.client("iam")
        for role in ("srgan-head", "srgan-worker"):
            trust = (POLICIES / "trust-policy.json").read_text()
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
            iam.create_instance_profile(InstanceProfileName=role)
            iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
            policy = (POLICIES / f"{role.removeprefix('srgan-')}-policy.json").read_text()
            iam.put_role_policy(RoleName=role, PolicyName="srgan", PolicyDocument=policy)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        groups = [
            ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
            for name in ("srgan-cluster", "srgan-ssh")
        ]
        image = ec2.describe_images()["Images"][0]["ImageId"]
        text = CLUSTER.read_text()
        text = text.replace(config["metadata"]["ami"], image)
        text = text.replace(config["metadata"]["cluster_group"], groups[0])
        text = text.replace(config["metadata"]["ssh_group"], groups[1])
        yield read_yaml(text)
    aws_utils.resource_cache.cache_clear()
    aws_utils.client_cache.cache_clear()


def test_ray_up_takes_all_from_the_file_and_the_head_calls_what_its_policy_allows(
    account, monkeypatch
):
    with _recorded_calls(monkeypatch) as calls:
        prepared = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(account))
        validate_config(prepared)
        resolved = bootstrap_aws(prepared)
    made = {name for _, name, _ in calls if not name.startswith("Describe")}
    # Neither roles nor groups nor rules: only the key pair.
    assert made == {"CreateKeyPair"}
    types = resolved["available_node_types"]
    for node in types.values():
        found = FOUND[node["node_config"]["InstanceType"]] | {"cpu_node": 0}
        assert all(
            node["resources"][name] == found[name] for name in ("CPU", "GPU") if name in found
        )
        (subnet,) = node["node_config"]["SubnetIds"]
        zone = boto3.resource("ec2", "us-east-1").Subnet(subnet).availability_zone
        assert zone == account["provider"]["availability_zone"]
    resolved.pop("head_node")

    aws_utils.resource_cache.cache_clear()
    with _recorded_calls(monkeypatch) as calls:
        provider = AWSNodeProvider(resolved["provider"], resolved["cluster_name"])
        autoscaler = NodeProviderAdapter(provider, _Reader(resolved))
        for name in WORKERS:
            autoscaler._launch_nodes_by_type(name, 1, "request")
        assert autoscaler.poll_errors() == []
        nodes = autoscaler.get_non_terminated()
        assert sorted(node.node_type for node in nodes.values()) == sorted(WORKERS)
        for node in nodes:
            provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
        autoscaler._do_terminate(list(nodes), "request")
        assert autoscaler.poll_errors() == []
        assert autoscaler.get_non_terminated() == {}
    allowed = {
        action for action in _actions(_statements("head-policy.json")) if action.startswith("ec2:")
    }
    assert {f"{service}:{name}" for service, name, _ in calls} == allowed

    launches = [body for _, name, body in calls if name == "RunInstances"]
    for body in launches:  # what the policy's conditions ask for
        tags = _tags(body)
        assert tags["instance"]["ray-cluster-name"] == "srgan"
        assert tags["instance"]["ray-node-type"] == "worker"
        assert tags["volume"]["project"] == tags["instance"]["project"] == "srgan"
        assert body["MetadataOptions.HttpTokens"] == "required"
        assert body["IamInstanceProfile.Name"] == "srgan-worker"
        assert body["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    markets = [body.get("InstanceMarketOptions.MarketType") for body in launches]
    assert markets == ["spot" if name.endswith("spot") else None for name in WORKERS]


def _tags(body: dict) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, kind in body.items():
        if match := re.fullmatch(r"(TagSpecification\.\d+)\.ResourceType", key):
            prefix = re.escape(match.group(1))
            found[kind] = {
                name: body[tag.removesuffix(".Key") + ".Value"]
                for tag, name in body.items()
                if re.fullmatch(rf"{prefix}\.Tag\.\d+\.Key", tag)
            }
    return found


# The commands on a node


def _cache_command(config: dict) -> str:
    (command,) = config["initialization_commands"]
    return command


@pytest.mark.parametrize(
    ("mounted", "disk", "formatted", "expected"),
    [
        ("/mnt/cache", "/dev/nvme1n1", "", []),
        ("/opt/dlami/nvme", "/dev/nvme1n1", "", ["mount --bind /opt/dlami/nvme /mnt/cache"]),
        (
            "",
            "/dev/nvme1n1",
            "",
            ["mkfs.ext4 -q -E nodiscard /dev/nvme1n1", "mount -o noatime /dev/nvme1n1 /mnt/cache"],
        ),
        ("", "/dev/nvme1n1", "ext4", ["mount -o noatime /dev/nvme1n1 /mnt/cache"]),
        ("", "", "", []),
    ],
)
def test_the_cache_lies_on_the_instance_store(config, tmp_path, mounted, disk, formatted, expected):
    log = tmp_path / "log"
    model = "Amazon EC2 NVMe Instance Storage" if disk else ""
    tools = {
        "sudo": f'echo "$@" >> {log}',
        "mountpoint": f'[ "$2" = "{mounted}" ]',
        "systemctl": "exit 1",
        "lsblk": f"""case "$*" in
            *MODEL*) echo "/dev/nvme0n1 Amazon Elastic Block Store"; echo "{disk} {model}" ;;
            *) echo "{formatted}" ;;
        esac""",
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    # As Ray wraps it for SSH.
    command = f"export RAY_HEAD_IP=10.0.0.1; {_cache_command(config)}"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", f"true && ({command})"], check=True, env=environment)
    lines = log.read_text().splitlines()
    assert lines == ["mkdir -p /mnt/cache", *expected, "chmod 1777 /mnt/cache"]


def test_the_cache_is_the_one_that_the_code_uses(config):
    options = config["docker"]["run_options"]
    assert "-v /mnt/cache:/cache" in options
    assert "-e SRGAN_CACHE=/cache" in options
    assert "/mnt/cache" in _cache_command(config)


# The policies


@pytest.mark.parametrize("name", ["head-policy.json", "worker-policy.json"])
def test_both_roles_may_use_the_bucket_and_no_other(name):
    statements = [s for s in _statements(name) if "s3" in str(s["Action"])]
    assert _actions(statements) == S3_ACTIONS
    for statement in statements:
        actions = set(_list(statement["Action"]))
        of_bucket = actions <= BUCKET_ACTIONS
        assert of_bucket or not actions & BUCKET_ACTIONS
        assert statement["Resource"] == f"arn:aws:s3:::BUCKET{'' if of_bucket else '/*'}"


@pytest.mark.parametrize("name", ["head-policy.json", "worker-policy.json", "trust-policy.json"])
def test_policies_name_each_action(name):
    policy = json.loads((POLICIES / name).read_text())
    assert policy["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(sids) == len(set(sids))
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement)
        assert not [action for action in _list(statement["Action"]) if "*" in action]


def test_a_worker_has_nothing_but_the_bucket():
    assert _actions(_statements("worker-policy.json")) == S3_ACTIONS
    head = _statements("head-policy.json")
    assert [s for s in head if s in _statements("worker-policy.json")] == head[:2]
    assert _actions(head) - S3_ACTIONS == {
        "ec2:CreateTags",
        "ec2:DescribeInstances",
        "ec2:RunInstances",
        "ec2:TerminateInstances",
        "iam:PassRole",
    }


def test_the_head_passes_on_only_the_workers_role():
    (statement,) = [s for s in _statements("head-policy.json") if s["Action"] == "iam:PassRole"]
    assert statement["Resource"] == "arn:aws:iam::ACCOUNT:role/srgan-worker"
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_the_head_rules_only_over_its_cluster(config):
    cluster = config["cluster_name"]
    for statement in _statements("head-policy.json"):
        action = statement["Action"]
        if "ec2:" not in str(action):
            continue
        for resource in _list(statement["Resource"]):
            if action == "ec2:DescribeInstances":
                assert resource == "*"  # EC2 has no narrower one
                assert statement["Condition"]["StringEquals"] == {"aws:RequestedRegion": "REGION"}
            else:
                assert re.match(r"arn:aws:ec2:REGION:(ACCOUNT:[a-z-]+|:image)/\*$", resource)
        equal = statement.get("Condition", {}).get("StringEquals", {})
        if action == "ec2:TerminateInstances" or statement["Sid"] == "TagWorkers":
            assert equal["aws:ResourceTag/ray-cluster-name"] == cluster
            assert equal["aws:ResourceTag/ray-node-type"] == "worker"
        if action == "ec2:RunInstances" and ":instance/" in str(statement["Resource"]):
            assert equal["aws:RequestTag/ray-cluster-name"] == cluster
            assert equal["ec2:MetadataHttpTokens"] == "required"
            assert statement["Condition"]["ArnEquals"]["ec2:InstanceProfile"].endswith(
                ":instance-profile/srgan-worker"
            )
        if action == "ec2:RunInstances" and ":volume/" in str(statement["Resource"]):
            assert statement["Condition"] == {"Bool": {"ec2:Encrypted": "true"}}


def test_only_instances_take_the_roles():
    (statement,) = _statements("trust-policy.json")
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
