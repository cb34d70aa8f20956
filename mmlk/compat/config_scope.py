"""``mmlk::<config>`` names in mmengine's configs.

mmengine asks pkg_resources where a package is installed, which setuptools 82 no longer ships and which is wrong for an
editable installation. Names that start with ``mmlk::`` are resolved here, from where this package's files are; all
others are left to mmengine.
"""

import difflib
import functools
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mmlk.errors import UsageError

__all__ = ['ConfigNotFoundError', 'patch_config', 'patch_hub', 'register_scope', 'resolve']

_PREFIX = 'mmlk::'
_EXTENSIONS = ('.py', '.yaml', '.json')
_PACKAGE = Path(__file__).resolve().parents[1]


class ConfigNotFoundError(FileNotFoundError, UsageError):
    """Raised where there is no config of a given ``mmlk::`` name."""


def _collection() -> Path:
    """Folder of ``configs/`` and ``model-index.yml``: in an installed package, or the root of a checkout."""
    installed = _PACKAGE / '.mim'
    collection = installed if (installed / 'configs').is_dir() else _PACKAGE.parent
    if not (collection / 'configs').is_dir():
        raise ConfigNotFoundError(
            f'mmlk has no configs (expected {installed / "configs"} or '
            f'{_PACKAGE.parent / "configs"}): install the package again'
        )
    return collection


def resolve(name: str) -> str:
    """Find the file of a config.

    Args:
        name: ``mmlk::`` and a path below ``configs``, with or without the extension.

    Returns:
        Absolute path of the file.

    Raises:
        ConfigNotFoundError: There is no such config; the message gives the nearest names.

    Example:
        >>> resolve('mmlk::ade20k/upernet_pelk_t.py')  # doctest: +SKIP
        '/home/me/mmlk/configs/ade20k/upernet_pelk_t.py'
    """
    configs = _collection() / 'configs'
    relative = name.removeprefix(_PREFIX)
    for extension in ('', *_EXTENSIONS):
        path = Path(os.path.normpath(configs / (relative + extension)))
        if path.is_file() and path.is_relative_to(configs):
            return str(path)
    known = sorted(path.relative_to(configs).as_posix() for path in configs.rglob('*') if path.suffix in _EXTENSIONS)
    nearest = [_PREFIX + match for match in difflib.get_close_matches(relative, known, n=3, cutoff=0.3)]
    raise ConfigNotFoundError(
        f'{name} is not a config of mmlk: use one of the files below {configs} (nearest: '
        f'{", ".join(nearest) or "none"})'
    )


def register_scope(utils_module: ModuleType) -> None:
    """Make mmengine accept the scope.

    Args:
        utils_module: ``mmengine.config.utils``.
    """
    utils_module.MODULE2PACKAGE.setdefault('mmlk', 'mmlk')


def patch_config(config_module: ModuleType) -> None:
    """Resolve ``mmlk::`` names in ``_base_`` lists and in ``Config.fromfile``.

    Args:
        config_module: ``mmengine.config.config``.
    """
    config_class = config_module.Config
    original_path, original_fromfile = config_class._get_cfg_path, config_class.fromfile

    @functools.wraps(original_path)
    def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(_PREFIX):
            # No scope: mmengine would look up every type of a base config in it first and only then in the root, and
            # ours are written for the scope of their host (mmseg, mmdet, mmpretrain).
            return resolve(cfg_path), None
        return original_path(cfg_path, filename)

    @functools.wraps(original_fromfile)
    def fromfile(filename: str | Path, *args: Any, **kwargs: Any) -> Any:
        if isinstance(filename, str) and filename.startswith(_PREFIX):
            filename = resolve(filename)
        return original_fromfile(filename, *args, **kwargs)

    config_class._get_cfg_path = staticmethod(_get_cfg_path)
    config_class.fromfile = staticmethod(fromfile)


def patch_hub(hub_module: ModuleType) -> None:
    """Resolve ``mmlk::`` names in ``mmengine.hub.get_config``.

    Args:
        hub_module: ``mmengine.hub.hub``.
    """
    original = hub_module.get_config

    @functools.wraps(original)
    def get_config(cfg_path: str, pretrained: bool = False) -> Any:
        if not cfg_path.startswith(_PREFIX):
            return original(cfg_path, pretrained)
        path = resolve(cfg_path)
        config = hub_module.Config.fromfile(path)
        if pretrained:
            config.model_path = _published_weights(path, cfg_path)
        return config

    hub_module.get_config = get_config
    package = sys.modules.get('mmengine.hub')
    if getattr(package, 'get_config', None) is original:
        package.get_config = get_config


def _published_weights(path: str, name: str) -> str:
    """Address of the weights that the metafiles give for a config."""
    from mmengine.fileio import load

    collection = _collection()
    config = Path(path).relative_to(collection).as_posix()
    for metafile in load(collection / 'model-index.yml')['Import']:
        for model in load(collection / metafile)['Models']:
            if model.get('Config') == config and model.get('Weights'):
                return model['Weights']
    raise UsageError(
        f'there are no published weights for {name}: call get_config with pretrained=False and give a '
        'checkpoint of your own'
    )
