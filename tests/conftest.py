"""Fixtures shared by the whole suite."""

import sys
from pathlib import Path

import pytest
import torch

# Test modules import the helpers that lie beside this file.
sys.path.insert(0, str(Path(__file__).parent))

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope='session')
def demo_root(tmp_path_factory) -> Path:
    """Where demo data of this session lies, so that it is generated once."""
    return tmp_path_factory.mktemp('demo_data')
