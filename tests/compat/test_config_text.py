"""Config texts in checkpoints: mmengine's own stay, what it would run as a program is taken out."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from hostile.checkpoint_values import CONFIG_TEXTS
from mmengine.config import Config

from mmlk.compat.checkpoint_loader import load_checkpoint_file
from mmlk.compat.config_text import is_plain

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = ('ade20k/upernet_pelk_t', 'coco/cascade_mask_rcnn_slak_t', 'imagenet/unireplknet_a')


@pytest.mark.parametrize('name', CONFIGS)
def test_texts_that_mmengine_writes_stay(name: str, tmp_path: Path):
    text = Config.fromfile(REPOSITORY / f'configs/{name}.py').pretty_text
    assert 'custom_imports = dict(' in text
    path = tmp_path / 'a.pth'
    hub = {'runtime_info': {'cfg': text}}
    torch.save({'meta': {'cfg': text, 'config': text, 'iter': 1}, 'message_hub': hub}, path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loaded = load_checkpoint_file(path)
    assert loaded == {'meta': {'cfg': text, 'config': text, 'iter': 1}, 'message_hub': hub}


@pytest.mark.parametrize('name', CONFIG_TEXTS)
def test_programs_are_taken_out(name: str, tmp_path: Path):
    text = CONFIG_TEXTS[name](tmp_path, tmp_path / 'canary')
    if name == 'a template in a string':
        # Nothing but values; what mmengine puts in for a variable is text.
        assert is_plain(text)
        return
    path = tmp_path / 'a.pth'
    hub = {'runtime_info': {'cfg': text, 'iter': 3}}
    torch.save({'meta': {'cfg': text, 'config': text, 'iter': 1}, 'message_hub': hub}, path)
    left_out = 'meta.config, meta.cfg, message_hub.runtime_info.cfg: a config with more than values'
    with pytest.warns(UserWarning, match=re.escape(f'{path} was loaded without {left_out}')):
        loaded = load_checkpoint_file(path)
    assert loaded == {'meta': {'iter': 1}, 'message_hub': {'runtime_info': {'iter': 3}}}


@pytest.mark.parametrize(
    ('text', 'plain'),
    [
        ('', True),
        ("'''What it is.'''\na = 1", True),
        ("a = b = dict(c=[1, -2.5, None], d={'e': (True, {'f'})}, g=float('inf'), h=1 - 2j)", True),
        ("custom_imports = {'imports': ['mmlk', 'mmpretrain.models'], 'allow_failed_imports': True}", True),
        ("custom_imports = dict(imports=['mmlk', 'antigravity'])", False),
        ('_base_ = []', False),
        ('a = b', False),
        ('a = -b - 1', False),
        ('a.b = 1', False),
        ('a[0] = 1', False),
        ('a += 1', False),
        ('a = dict(**b)', False),
        ('a = {**b}', False),
        ("a = '%s' % 1", False),
        ("a = 'x' * 10**10", False),
        ('a = lambda: 1', False),
        ('del a', False),
        ('float = 1', False),
        (b'a = 1', False),
        ('a = ' + '[' * 5000 + ']' * 5000, False),
        ('a = ' + '-' * 5000 + '1', False),
        ('a\0 = 1', False),
        ('#' * (2**20 + 1), False),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_is_plain(text, plain):
    assert is_plain(text) is plain


@pytest.mark.parametrize(
    'checkpoint', [[1], {'meta': 'config'}, {'meta': ['config'], 'message_hub': 'runtime_info'}, 5]
)
def test_other_contents_are_left_alone(checkpoint, tmp_path: Path):
    torch.save(checkpoint, tmp_path / 'a.pth')
    assert load_checkpoint_file(tmp_path / 'a.pth') == checkpoint
