"""Settings that people write: a YAML file into a checked model. Experiments and recipes are read through here.

The reader is that of the boards, so that there is one.
"""

from jetson.settings import read_yaml

__all__ = ["read_yaml"]
