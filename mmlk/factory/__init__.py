"""Models by name, without configs: ``mmlk.create_model``, ``mmlk.list_models`` and the same names in timm."""
