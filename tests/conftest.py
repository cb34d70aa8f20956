"""Fixtures shared by the whole suite."""

import gc
import sys
from pathlib import Path

import pytest
import timm.layers.weight_init
import torch

# Test modules import the helpers that lie beside this file.
sys.path.insert(0, str(Path(__file__).parent))

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish():
    """What the imports left stays until the end; looking through it again and again takes the collector long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def no_numbers_without_storage():
    """On the meta device there is nothing to fill, yet timm's truncated normal takes four fifths of a network's time.

    Of that, most goes into ``clamp_``, which PyTorch's meta device does in Python, at 8 ms a weight.
    """
    fill = timm.layers.weight_init._trunc_normal_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            timm.layers.weight_init,
            '_trunc_normal_',
            lambda tensor, *args: tensor if tensor.is_meta else fill(tensor, *args),
        )
        yield


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


@pytest.fixture(scope='module')
def one_thread():
    """This process computes with one thread, as children do that are forked from it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
