"""What --resume resumes from."""

import pytest
import torch
from mmengine.config import Config

from mmlk.cli.run import choose_checkpoint
from mmlk.compat.checkpoint_loader import CheckpointError
from mmlk.errors import UsageError

CHECKPOINT = dict(meta=dict(epoch=0, iter=3), state_dict={}, message_hub={}, optimizer={})


@pytest.fixture
def cfg(tmp_path):
    return Config(dict(work_dir=str(tmp_path), resume=False, load_from='pretrained.pth'))


def save(folder, name):
    torch.save(CHECKPOINT, folder / name)
    return str(folder / name)


def test_not_asked(cfg, tmp_path):
    save(tmp_path, 'iter_3.pth')
    choose_checkpoint(cfg, None)
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')


def test_newest_that_can_be_read(cfg, tmp_path, capsys):
    good = save(tmp_path, 'iter_3.pth')
    (tmp_path / 'iter_6.pth').write_bytes(b'PK\x03\x04 cut off')
    choose_checkpoint(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (True, good)
    refused, chosen = capsys.readouterr().out.splitlines()
    assert refused.startswith(f'not resumed from: {tmp_path}/iter_6.pth is truncated, damaged')
    assert chosen == f'resuming from {good}'


def test_nothing_to_resume_from(cfg, tmp_path, capsys):
    choose_checkpoint(cfg, 'auto')
    # The weights that the config starts from are still wanted.
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')
    assert capsys.readouterr().out == f'no checkpoint in {tmp_path}: starting from the beginning\n'


def test_nothing_that_can_be_read(cfg, tmp_path):
    (tmp_path / 'iter_6.pth').write_bytes(b'')
    with pytest.raises(
        UsageError, match=f'in {tmp_path}, and none of 1 can be read; start a new run.*iter_6.pth is empty'
    ):
        choose_checkpoint(cfg, 'auto')


@pytest.mark.parametrize('asked', ['path', 'config'])
def test_one_that_is_named(cfg, tmp_path, asked):
    path = save(tmp_path, 'mine.pth')
    if asked == 'config':
        cfg.resume, cfg.load_from = True, path
    choose_checkpoint(cfg, path if asked == 'path' else None)
    assert (cfg.resume, cfg.load_from) == (True, path)


def test_config_that_resumes_automatically(cfg, tmp_path):
    cfg.resume, cfg.load_from = True, None
    path = save(tmp_path, 'epoch_3.pth')
    choose_checkpoint(cfg, None)
    assert (cfg.resume, cfg.load_from) == (True, path)


def test_one_that_is_missing_or_weights_only(cfg, tmp_path):
    with pytest.raises(UsageError, match='found none at nowhere.pth'):
        choose_checkpoint(cfg, 'nowhere.pth')
    torch.save(CHECKPOINT | dict(optimizer=None), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match="as the entry 'optimizer' that resuming needs"):
        choose_checkpoint(cfg, str(tmp_path / 'weights.pth'))


def test_one_process_tells(cfg, tmp_path, capsys, monkeypatch):
    save(tmp_path, 'iter_3.pth')
    monkeypatch.setenv('RANK', '1')
    choose_checkpoint(cfg, 'auto')
    assert capsys.readouterr().out == ''
