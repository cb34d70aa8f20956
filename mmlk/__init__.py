"""Large-kernel ConvNets for PyTorch, as an OpenMMLab plugin.

Importing the package needs torch alone. Where MMEngine is installed it also makes the OpenMMLab stack run without
compiled operators and load checkpoints safely (:mod:`mmlk.compat`); it imports no host toolbox. ``accelerate`` is
imported when it is asked for, because it takes torch to do so.
"""

from mmlk import compat
from mmlk.errors import UsageError
from mmlk.version import __version__

compat.install()

__all__ = ['UsageError', '__version__', 'accelerate']


def __getattr__(name: str):
    if name == 'accelerate':
        from mmlk.nn import accelerate

        globals()[name] = accelerate
        return accelerate
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
