"""YAML configs and metafiles without code in them.

mmengine reads YAML with a loader of PyYAML for which ``!!python/object/apply`` calls any function. What mmengine writes
needs no more than plain values and tuples.
"""

from __future__ import annotations

from types import ModuleType


def patch_handler(handler_module: ModuleType) -> None:
    """Let mmengine read YAML with a loader that makes values only.

    Args:
        handler_module: ``mmengine.fileio.handlers.yaml_handler``.
    """
    import yaml

    class Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
        """Plain values, and tuples as ``Config.dump`` writes them."""

    Loader.add_constructor(
        'tag:yaml.org,2002:python/tuple', lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
    )
    handler_module.Loader = Loader
