"""What lets this package run on torch >= 2.6 beside wheels of the OpenMMLab stack in which nothing is compiled.

``install()`` puts four things in place and imports none of the packages they concern:

* ``mmcv._ext``, where no compiled one is found, is answered by `mmlk.compat.mmcv_ops`, so that mmdet and mmseg import;
* mmengine's checkpoint loaders are replaced by `mmlk.compat.checkpoint_loader`, which reads mmengine's own checkpoints
  under torch >= 2.6 and refuses files that would run code;
* ``mmlk::<config>`` names are resolved by `mmlk.compat.config_scope`;
* YAML files are read by `mmlk.compat.yaml_loader`, which runs no code from them.

`mmlk.compat.families` says which of the two families of packages is installed.
"""

from types import ModuleType

from .import_hooks import provide_when_missing, when_imported

__all__ = ['install']

_installed = False


def install() -> None:
    """Register the fallbacks and patches; each takes effect when the module it concerns is imported.

    Idempotent. Where mmengine or mmcv is not installed, the matching part never takes effect.
    """
    global _installed
    if _installed:
        return
    _installed = True
    provide_when_missing('mmcv._ext', 'mmlk.compat.mmcv_ops')
    when_imported('mmengine.runner.checkpoint', _register_checkpoint_loaders)
    when_imported('mmengine.config.utils', _register_config_scope)
    when_imported('mmengine.config.config', _patch_config)
    when_imported('mmengine.hub.hub', _patch_hub)
    when_imported('mmengine.fileio.handlers.yaml_handler', _patch_yaml_handler)


# The modules behind these callbacks are imported only when they are needed, which keeps ``import mmlk`` light.


def _register_checkpoint_loaders(module: ModuleType) -> None:
    from . import checkpoint_schemes

    checkpoint_schemes.register(module)


def _register_config_scope(module: ModuleType) -> None:
    from . import config_scope

    config_scope.register_scope(module)


def _patch_config(module: ModuleType) -> None:
    from . import config_scope

    config_scope.patch_config(module)


def _patch_hub(module: ModuleType) -> None:
    from . import config_scope

    config_scope.patch_hub(module)


def _patch_yaml_handler(module: ModuleType) -> None:
    from . import yaml_loader

    yaml_loader.patch_handler(module)
