"""Training, validation, resuming and testing of one tiny classifier per network and kind of recipe, on demo data."""

import json

import pytest
from tool_runner import run_tool, scalars

from mmlk.datasets.demo import classification

#: What makes each network as small as it can be with every code path, and the channels of its last stage.
TINY = {
    'pelk_t': ('width_factor=0.0834', 'kernel_size=(9,9,7,7)', 64),
    'replknet_31b_in21k_pretrain': ('channels=(8,16,32,64)', 'kernel_size=(9,9,7,7)', 64),
    'slak_b_384': ('width_factor=0.0625', 'kernel_size=(9,9,7,7,5)', 64),
    'shiftwise_t': ('width_factor=0.1', 'kernel_size=(9,9,7,7,3)', 64),
    'unireplknet_l_in21k_384': ('channels=(8,16,32,64)', 'kernel_size=(3,7,7,7)', 64),
}


@pytest.fixture
def in_repository(monkeypatch, repository, tmp_path_factory):
    """In the checkout, with a handful of pictures: two epochs of two iterations."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(tmp_path_factory.getbasetemp() / 'few_classes'))
    monkeypatch.setenv('MMLK_DEMO_ITERS', '4')
    monkeypatch.setenv('LOCAL_RANK', '0')
    for key, value in dict(size=64, batch_size=4, num_train=8, num_val=8).items():
        monkeypatch.setitem(classification.SIZES, key, value)


def tiny_options(name: str) -> list[str]:
    *backbone, channels = TINY[name]
    options = [f'model.backbone.{option}' for option in ('depths=(1,1,1,1)', *backbone)]
    hooks = ['default_hooks.checkpoint.interval=1', 'default_hooks.logger.interval=1']
    return ['--cfg-options', *options, f'model.head.in_channels={channels}', *hooks]


@pytest.mark.parametrize('name', TINY)
def test_trains_resumes_and_tests(name, tmp_path, in_repository):
    command = [f'configs/imagenet/{name}.py', '--demo', '--work-dir', tmp_path]
    options = tiny_options(name)
    result = run_tool('train.py', *command, *options)
    assert result.code == 0, result.err
    # As if it had been stopped after the first epoch.
    last = tmp_path / 'epoch_2.pth'
    last.unlink()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    result = run_tool('train.py', *command, '--resume', *options)
    assert result.code == 0, result.err
    assert last.is_file()
    whole, resumed = scalars(tmp_path)
    rates = [[(record['step'], record['lr']) for record in run if 'loss' in record] for run in (whole, resumed)]
    assert [step for step, _ in rates[0]] == [1, 2, 3, 4]
    assert rates[1] == rates[0][2:]
    assert {'accuracy/top1', 'accuracy/top5'} < set(resumed[-1])

    # The fused network gives the figures of the validation at the end of training.
    out = tmp_path / 'metrics.json'
    tested = ['--demo', '--deploy', '--work-dir', tmp_path / 'test', '--out', out, *options]
    result = run_tool('test.py', command[0], last, *tested)
    assert result.code == 0, result.err
    validated = {key: resumed[-1][key] for key in ('accuracy/top1', 'accuracy/top5')}
    assert json.loads(out.read_text()) == pytest.approx(validated)


class TestBadInput:
    """One clear sentence and exit code 2."""

    def train(self, tmp_path, name, *options) -> str:
        command = [f'configs/imagenet/{name}.py', '--work-dir', tmp_path / 'wd', *tiny_options(name), *options]
        return run_tool('train.py', *command).error

    def test_missing_data(self, tmp_path, in_repository):
        error = self.train(tmp_path, 'replknet_31b_in21k_pretrain', f'train_dataloader.dataset.data_root={tmp_path}/no')
        assert f'train_dataloader expects data in {tmp_path}/no/train: found no such folder' in error
        assert 'the same 21841 folders in both' in error and '--demo' in error

    def test_classes_that_are_not_those_of_the_head(self, tmp_path, in_repository):
        (tmp_path / 'train/n01440764').mkdir(parents=True)
        error = self.train(tmp_path, 'pelk_t', f'train_dataloader.dataset.data_root={tmp_path}')
        assert f'train_dataloader expects 1000 class folders in {tmp_path}/train, found 1; complete the folder' in error

    def test_missing_pretrained_weights(self, tmp_path, in_repository):
        data_root = classification.generate_imagenet(tmp_path, num_train=8, num_val=8, progress=False)
        roots = [f'{name}_dataloader.dataset.data_root={data_root}' for name in ('train', 'val')]
        error = self.train(tmp_path, 'unireplknet_l_in21k_384', *roots)
        assert 'weights expected at checkpoints/unireplknet_l_in21k_pretrain.pth, found no such file' in error
        assert 'configs/imagenet/unireplknet_l_in21k_pretrain.py' in error
