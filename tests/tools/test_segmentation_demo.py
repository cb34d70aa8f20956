"""Training, validation, resuming and testing of one tiny segmentor per network and of Cityscapes, on demo data."""

import json
from dataclasses import replace

import pytest
from tool_runner import run_tool, scalars

from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.cityscapes import generate_cityscapes
from mmlk.datasets.demo.segmentation import DEMO_DATA

WIDTHS = ['model.decode_head.in_channels=[8,16,32,64]', 'model.auxiliary_head.in_channels=32']
HEADS = ['model.decode_head.channels=8', 'model.auxiliary_head.channels=8']
#: What makes each network as small as it can be with every code path.
TINY = {
    'ade20k/upernet_replknet_31b.py': ['channels=(8,16,32,64)', 'kernel_size=(9,9,7,7)'],
    'ade20k/upernet_slak_t.py': ['width_factor=0.0834', 'kernel_size=(9,9,7,7,5)'],
    'ade20k/upernet_shiftwise_t.py': ['width_factor=0.1', 'kernel_size=(9,9,7,7,3)'],
    'ade20k/upernet_unireplknet_t.py': ['channels=(8,16,32,64)'],
    'cityscapes/upernet_replknet_31b_769.py': ['channels=(8,16,32,64)', 'kernel_size=(9,9,7,7)'],
}


@pytest.fixture
def in_repository(monkeypatch, repository, tmp_path_factory):
    """In the checkout, with a handful of pictures and two iterations."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(tmp_path_factory.getbasetemp() / 'few'))
    monkeypatch.setenv('MMLK_DEMO_ITERS', '2')
    monkeypatch.setenv('LOCAL_RANK', '0')
    few = dict(num_train=8, num_val=2, progress=False)
    for kind, generate in (('ADE20KDataset', generate_ade20k), ('CityscapesDataset', generate_cityscapes)):

        def generate_few(root, size, generate=generate, **counts):
            return generate(root, size=size, **few)

        monkeypatch.setitem(DEMO_DATA, kind, replace(DEMO_DATA[kind], generate=generate_few))


@pytest.mark.parametrize('config', TINY)
def test_trains_resumes_and_tests(config, tmp_path, in_repository):
    backbone = [f'model.backbone.{option}' for option in ('depths=(1,1,1,1)', *TINY[config])]
    options = ['--cfg-options', *backbone, *WIDTHS, *HEADS, 'default_hooks.checkpoint.interval=1']
    command = [f'configs/{config}', '--demo', '--work-dir', tmp_path]
    result = run_tool('train.py', *command, *options)
    assert result.code == 0, result.err
    # As if it had been stopped after the first iteration.
    last = tmp_path / 'iter_2.pth'
    last.unlink()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_1.pth'))
    result = run_tool('train.py', *command, '--resume', *options)
    assert result.code == 0, result.err
    assert last.is_file()
    # The validations, without what sparse training logs of its own.
    first, resumed = ([r for r in run if not {'loss', 'density'} & set(r)] for run in scalars(tmp_path))
    assert [validation['step'] for validation in first + resumed] == [2, 2]
    assert {'mIoU', 'far/mIoU', 'present/mIoU'} < set(resumed[0])

    plain = resumed[0]['mIoU']
    assert miou_of(config, last, tmp_path / 'deploy', '--deploy', *options) == pytest.approx(plain, abs=0.05)
    if 'unireplknet' in config:
        # Its pictures are resized twice, the second time to multiples of 32.
        assert 0 <= miou_of(config, last, tmp_path / 'tta', '--tta', *options) <= 100


def miou_of(config, checkpoint, work_dir, *arguments) -> float:
    """mIoU of a checkpoint."""
    out = work_dir / 'metrics.json'
    command = [f'configs/{config}', checkpoint, '--demo', '--work-dir', work_dir, '--out', out]
    result = run_tool('test.py', *command, *arguments)
    assert result.code == 0, result.err
    return json.loads(out.read_text())['mIoU']
