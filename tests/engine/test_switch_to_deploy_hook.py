"""The hook behind ``tools/test.py --deploy``: fuses whatever the runner holds, once, and says what it did."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.registry import HOOKS, MODELS
from numerics import FUSION_BLOCK, randomise, relative_error
from torch import nn

from mmlk.errors import UsageError


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def run_hook(model, **settings):
    runner = SimpleNamespace(model=model, logger=logging.getLogger('test'))
    HOOKS.build(dict(type='mmlk.SwitchToDeployHook', **settings)).before_test(runner)
    return runner


def make_model():
    mixer = MODELS.build(dict(type='mmlk.StripeMixer', channels=4, kernel_size=9, small_kernel=3))
    return randomise(nn.Sequential(mixer)).eval()


@pytest.mark.parametrize(
    ('settings', 'shapes'),
    [({}, [(9, 3), (3, 9)]), ({'form': 'strips'}, [(9, 3), (3, 9)]), ({'form': 'dense'}, [(9, 9)])],
)
def test_fuses_and_says_so(settings, shapes, logged):
    model = make_model()
    images = torch.randn(1, 4, 5, 12)
    with torch.no_grad():
        expected = model(images)
        run_hook(model, **settings)
        assert relative_error(model(images), expected) < FUSION_BLOCK[torch.float32]
    assert [tuple(conv.weight.shape[2:]) for conv in model[0].reparam_convs] == shapes
    assert f'fused the model for testing, form {settings.get("form", "auto")}' in logged.text
    run_hook(model, **settings)
    assert 'nothing to fuse' in logged.text


def test_looks_inside_wrappers(monkeypatch):
    model = make_model()
    # No processes are started here, so the wrapper is made without its own constructor.
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    run_hook(wrapper)
    assert model[0].deployed


def test_nothing_to_fuse(logged):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    run_hook(model)
    (record,) = logged.records
    assert record.levelname == 'WARNING' and 'nothing to fuse' in record.message


def test_form_that_the_model_does_not_have():
    model = MODELS.build(dict(type='mmlk.DenseMixer', channels=4, kernel_size=9))
    with pytest.raises(
        UsageError, match=r"cannot be fused to form 'strips': DenseMixer has the fused forms \('dense',\)"
    ):
        run_hook(model, form='strips')
