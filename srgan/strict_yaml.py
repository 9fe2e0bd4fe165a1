"""YAML as a configuration needs it: what a person would take for a number is one, no key twice."""

import re
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """YAML whose floats are YAML 1.2's: `1e-4` is a number; and whose keys may not repeat."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that is given twice, which SafeLoader would drop silently."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
# Integers first: a resolver that comes later is asked later.
for _first in "-+0123456789":
    StrictLoader.yaml_implicit_resolvers[_first].sort(key=lambda pair: not pair[0].endswith(":int"))
