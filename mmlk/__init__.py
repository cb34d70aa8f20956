"""Large-kernel ConvNets for PyTorch, as an OpenMMLab plugin.

Importing the package needs torch alone. Where MMEngine is installed it also makes the OpenMMLab stack run without
compiled operators and load checkpoints safely (:mod:`mmlk.compat`); it imports no host toolbox. The functions are
imported when they are asked for, and the networks are registered in timm when timm is imported.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from mmlk import compat
from mmlk.compat.import_hooks import when_imported
from mmlk.errors import UsageError
from mmlk.version import __version__

compat.install()

__all__ = ['UsageError', '__version__', 'accelerate', 'create_model', 'list_models']

#: Where the names are that are imported when they are asked for.
_LAZY = {
    'accelerate': 'mmlk.nn',
    'create_model': 'mmlk.factory.create',
    'list_models': 'mmlk.factory.names',
}


def _register_in_timm(timm_models: ModuleType) -> None:
    from mmlk.factory import timm_models as ours

    ours.register(timm_models)


when_imported('timm.models', _register_in_timm)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        globals()[name] = getattr(import_module(_LAZY[name]), name)
        return globals()[name]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
