"""Demo data for the tests of everything that reads it."""

from pathlib import Path

import pytest

from mmlk.datasets.demo.ade20k import generate_ade20k


@pytest.fixture(scope='session')
def demo_data(demo_root) -> Path:
    """The data set that ``--demo`` uses, generated once per session."""
    return generate_ade20k(demo_root, progress=False)
