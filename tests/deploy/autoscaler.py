"""What Ray's own autoscaler starts for a configuration."""

from typing import Any

from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
    CloudResourceMonitor,
)
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

from data_pipeline.platform.fanout import CPU_NODES

# What a training worker and a task of prepare ask for.
TRAINING_WORKER = {"CPU": 1, "GPU": 1}
CPU_TASK = {"CPU": 1, CPU_NODES: 1}


def launched(
    config: dict[str, Any],
    asked: dict[str, float],
    count: int,
    *,
    monitor: CloudResourceMonitor | None = None,
) -> dict[str, int]:
    """The nodes that start for `count` times the resources `asked`, where only the head runs."""
    types = AutoscalingConfig(config, skip_content_hash=True)
    monitor = monitor or CloudResourceMonitor()
    head = Instance(
        instance_id="head",
        instance_type=config["head_node_type"],
        node_kind=NodeKind.HEAD,
        status=Instance.REQUESTED,
    )
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=types.get_node_type_configs(),
        max_num_nodes=types.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(asked) for _ in range(count)]
        ),
        current_instances=[AutoscalerInstance(cloud_instance_id="head", im_instance=head)],
        cloud_resource_availabilities=monitor.get_resource_availabilities(),
        recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
    )
    reply = ResourceDemandScheduler().schedule(request)
    return {launch.instance_type: launch.count for launch in reply.to_launch}
