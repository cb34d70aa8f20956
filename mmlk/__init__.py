"""Large-kernel ConvNets for PyTorch, as an OpenMMLab plugin.

Importing the package needs torch alone. Where MMEngine is installed it also makes the OpenMMLab stack run without
compiled operators and load checkpoints safely (:mod:`mmlk.compat`); it imports no host toolbox.
"""

from mmlk import compat
from mmlk.errors import UsageError
from mmlk.version import __version__

compat.install()

__all__ = ['UsageError', '__version__']
