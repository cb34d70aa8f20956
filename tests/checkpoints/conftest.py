"""The tiny SLaK of tests/tiny_slak.py as one more architecture."""

import pytest
from tiny_slak import CHANNELS, DEPTHS, KERNELS

from mmlk.models import SLaK


@pytest.fixture
def tiny_arch(monkeypatch):
    fields = dict(depths=DEPTHS, base_channels=CHANNELS, width_factor=1.0, kernel_size=(*KERNELS, 5))
    monkeypatch.setattr(SLaK, 'arch_zoo', {'tiny': fields} | SLaK.arch_zoo)
