from typing import Any

from ruamel.yaml import YAML


def read_yaml(text: str) -> Any:
    """YAML 1.1, as Ray and Kubernetes read it; a key given twice is an error here."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml.load(text)
