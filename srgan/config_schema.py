"""Makes configs/schema.json, with which editors complete and check configs/*.yaml.

python -m srgan.config_schema > configs/schema.json
"""

import json

from srgan.config import Config


def schema_text() -> str:
    """The JSON schema of `Config`, with every field's description on one line."""
    return json.dumps(Config.model_json_schema(), indent=1).replace(r"\n", " ") + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
