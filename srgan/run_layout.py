"""Where things lie in a RUN."""

CONFIG_KEY = "config.yaml"
DATASET_KEY = "dataset.json"
METRICS_KEY = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
GENERATORS = "generators/"


def generator_key(epoch: int) -> str:
    """Key of an epoch's generator."""
    return f"{GENERATORS}epoch-{epoch:04}.keras"


def samples_key(epoch: int) -> str:
    """Key of an epoch's sample picture."""
    return f"samples/epoch-{epoch:04}.png"
