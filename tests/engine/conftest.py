"""Fixtures of the tests of hooks and loops."""

import pytest
import torch


@pytest.fixture(scope='module')
def one_thread():
    """Children that are forked compute with one thread, since the pool of this process does not exist there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
