# One image for every node of a cluster: head, workers, submitters.
#
#   docker build -t REGISTRY/srgan:0.1.0-gpu .
#   docker build -t REGISTRY/srgan:0.1.0-cpu --build-arg VARIANT=cpu .
#
# CUDA comes once, as the pip packages that TensorFlow names; the driver is the node's, mounted by
# the NVIDIA container runtime. The constraints are constraints.txt without the development tools:
#
#   for variant in "cpu" "gpu --extra gpu"; do set -- $variant; uv pip compile --universal \
#     --python-version 3.10 --generate-hashes --no-emit-index-url --no-annotate --no-header \
#     -c constraints.txt -o constraints-$1.txt --extra export $2 $3 pyproject.toml; done
ARG VARIANT=gpu

FROM python:3.12.12-slim-bookworm AS builder
ARG VARIANT
COPY constraints-build.txt /tmp/
COPY constraints-${VARIANT}.txt /tmp/constraints.txt
# pyvips alone comes as source, which is Python: it needs no compiler, but the tools that pack it.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --require-hashes --no-deps \
        --only-binary=:all: -r /tmp/constraints-build.txt \
    && /opt/venv/bin/python -m pip install --no-cache-dir --require-hashes --no-deps \
        --only-binary=:all: --no-binary=pyvips --no-build-isolation -r /tmp/constraints.txt

FROM python:3.12.12-slim-bookworm AS cpu
# wget: KubeRay's probes. rsync, openssh-client: Ray's cluster launcher. No versions: Debian's
# security updates take the old ones away, and a pinned build would break.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    # 1000 is the user of most clouds' machines, whose files Ray's launcher mounts.
    && useradd --create-home --uid 1000 --user-group --shell /bin/bash ray \
    && install --directory --owner ray --group ray /cache \
    # Ray's launcher and KubeRay start login shells, which forget PATH.
    && echo "PATH=/opt/venv/bin:\$PATH" > /etc/profile.d/venv.sh
COPY --from=builder /opt/venv /opt/venv
WORKDIR /opt/srgan
COPY . .
# HOME: Ray's launcher looks for it here, and takes /root otherwise. PYTHONPATH: workers find the
# source wherever Ray starts them; that of a job's working_dir comes before it.
ENV HOME=/home/ray \
    PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/srgan \
    PYTHONUNBUFFERED=1 \
    RAY_COLOR_PREFIX=0 \
    RAY_USAGE_STATS_ENABLED=0 \
    SRGAN_CACHE=/cache \
    SRGAN_VARIANT=cpu \
    TF_CPP_MIN_LOG_LEVEL=2
USER 1000:1000
CMD ["bash"]

FROM cpu AS gpu
# What the NVIDIA container runtime mounts into an image that is not made from NVIDIA's.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    SRGAN_VARIANT=gpu

FROM ${VARIANT}
HEALTHCHECK --interval=5m --timeout=1m --start-period=1m CMD ["python", "-c", \
    "import os, sys, srgan, tensorflow as tf; \
    from data_pipeline.platform.devices import why_no_gpus; \
    gpus = tf.config.list_physical_devices('GPU'); \
    print('TensorFlow', tf.__version__, 'GPUs:', [gpu.name for gpu in gpus]); \
    needed = os.environ['SRGAN_VARIANT'] == 'gpu' and not gpus; \
    sys.exit(f'error: TensorFlow finds no GPU: {why_no_gpus(1)}' if needed else 0)"]
