"""tools/train.py and tools/test.py end to end on a tiny network, and what they say to bad input."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch  # noqa: F401  (named by the condition of a skip)
from resume_runs import differences, end_state
from tool_runner import TINY, TOOLS, run_tool

# Runs that are compared bit by bit have to compute with as many threads, in this process and in others.
pytestmark = pytest.mark.usefixtures('one_thread')

CONFIG = 'configs/ade20k/upernet_pelk_t.py'
ITERATIONS = 12


@pytest.fixture
def in_repository(monkeypatch, repository, demo_root):
    """In the checkout, demo data shared by the session, few iterations, nothing written into the checkout."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv('MMLK_DEMO_ROOT', str(demo_root))
    monkeypatch.setenv('MMLK_DEMO_ITERS', str(ITERATIONS))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, repository, demo_root, one_thread):
    """Work directory of an uninterrupted tiny run."""
    work_dir = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        patch.setenv('MMLK_DEMO_ROOT', str(demo_root))
        patch.setenv('MMLK_DEMO_ITERS', str(ITERATIONS))
        patch.setenv('LOCAL_RANK', '0')
        result = run_tool('train.py', *demo_command(work_dir))
    assert result.code == 0, result.err
    return work_dir, result


def demo_command(work_dir, *options):
    hooks = ['default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=4']
    # The demo itself trains without.
    drop_path = ['model.backbone.drop_path_rate=0.3']
    return [CONFIG, '--demo', '--work-dir', str(work_dir), '--cfg-options', *TINY, *hooks, *drop_path, *options]


def scalars(work_dir):
    runs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [[json.loads(line) for line in run.read_text().splitlines()] for run in runs]


def test_training_prints_changes_and_results(trained):
    work_dir, result = trained
    assert "- model.decode_head.norm_cfg.type: 'SyncBN'\n+ model.decode_head.norm_cfg.type: 'BN'" in result.out
    assert '- train_cfg.max_iters: 160000\n+ train_cfg.max_iters: 12' in result.out
    for row in ('iterations', 'final loss', 'mIoU', str(work_dir / 'iter_12.pth'), '.log'):
        assert row in result.out
    assert (work_dir / 'iter_12.pth').is_file()
    assert [r['step'] for r in scalars(work_dir)[0] if 'loss' in r] == list(range(1, ITERATIONS + 1))


def test_resume_after_kill(trained, tmp_path, in_repository):
    """kill -9 after the first checkpoint; --resume ends as the uninterrupted run, with drop path and dropout."""
    command = [sys.executable, str(TOOLS / 'train.py'), *demo_command(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last_checkpoint = tmp_path / 'last_checkpoint'
    deadline = time.monotonic() + 120
    while not last_checkpoint.exists():
        assert process.poll() is None, 'the run ended by itself'
        assert time.monotonic() < deadline, 'no checkpoint within two minutes'
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = int(last_checkpoint.read_text().removesuffix('.pth').rpartition('_')[2])
    assert 0 < first < ITERATIONS

    result = run_tool('train.py', *demo_command(tmp_path), '--resume')
    assert result.code == 0, result.err
    assert f'resuming from {tmp_path / f"iter_{first}.pth"}' in result.out
    (whole,), (_, resumed) = scalars(trained[0]), scalars(tmp_path)
    whole, resumed = ([(r['step'], r['lr'], r['loss']) for r in run if 'loss' in r] for run in (whole, resumed))
    assert resumed == whole[first:]
    found = end_state(tmp_path)
    assert {int(state['step']) for state in found['optimizer']['state'].values()} == {ITERATIONS}
    assert differences(end_state(trained[0]), found) == []


def test_scaled_rate_without_validation(tmp_path, in_repository, monkeypatch):
    monkeypatch.setenv('MMLK_DEMO_ITERS', '3')
    result = run_tool('train.py', *demo_command(tmp_path), '--no-validate', '--auto-scale-lr')
    assert result.code == 0, result.err
    (run,) = scalars(tmp_path)
    run = [r for r in run if 'loss' in r or 'density' not in r]
    assert [r['step'] for r in run] == [1, 2, 3]
    # The demo's 2e-3 is meant for the recipe's batch of 16; this one has 4.
    assert max(r['lr'] for r in run) == pytest.approx(2e-3 * 4 / 16)
    assert 'mIoU' not in result.out.split('trained configs')[1]


class TestTesting:
    def test_metrics_pictures_and_predictions(self, trained, tmp_path, in_repository):
        out = tmp_path / 'new' / 'metrics.json'
        checkpoint = trained[0] / 'iter_12.pth'
        result = self.run(tmp_path, checkpoint, '--out', out, '--show-dir', tmp_path / 'pictures')
        assert result.code == 0, result.err
        metrics = json.loads(out.read_text())
        (run,) = scalars(trained[0])
        # The same figures as the validation at the end of training.
        assert metrics['mIoU'] == pytest.approx(run[-1]['mIoU'], abs=0.01)
        assert metrics['far/mIoU'] == pytest.approx(run[-1]['far/mIoU'], abs=0.01)
        assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 8

    def test_deployed_network_gives_the_same_metrics(self, trained, tmp_path, in_repository):
        checkpoint = trained[0] / 'iter_12.pth'
        outs = [tmp_path / 'plain.json', tmp_path / 'deploy.json']
        for out, flag in zip(outs, ([], ['--deploy']), strict=True):
            result = self.run(tmp_path, checkpoint, '--out', out, *flag)
            assert result.code == 0, result.err
        plain, deployed = (json.loads(out.read_text()) for out in outs)
        assert deployed == pytest.approx(plain, abs=0.05)

    def test_tta(self, trained, tmp_path, in_repository):
        out = tmp_path / 'tta.json'
        # Each picture is seen twelve times.
        two = 'test_dataloader.dataset.indices=2'
        result = self.run(tmp_path, trained[0] / 'iter_12.pth', two, '--tta', '--out', out)
        assert result.code == 0, result.err
        assert 'mIoU' in json.loads(out.read_text())

    def run(self, work_dir, checkpoint, *arguments):
        base = [CONFIG, checkpoint, '--demo', '--work-dir', work_dir / 'wd', '--cfg-options', *TINY]
        return run_tool('test.py', *base, *arguments)


class TestBadInput:
    """One clear sentence and exit code 2."""

    def train(self, tmp_path, *options, demo=True, arguments=(), config=CONFIG):
        demo = ['--demo'] if demo else []
        options = ['--cfg-options', *TINY, *options]
        return run_tool('train.py', config, *demo, '--work-dir', tmp_path / 'wd', *arguments, *options)

    def test_missing_dataset(self, tmp_path, in_repository):
        root = tmp_path / 'nowhere'
        result = self.train(tmp_path, f'train_dataloader.dataset.data_root={root}', demo=False)
        error = result.error
        assert str(root / 'images/training') in error
        assert 'images/{training,validation}/*.jpg and annotations/{training,validation}/*.png' in error
        assert '--demo' in error
        assert not (tmp_path / 'wd').exists()

    def test_images_without_labels(self, tmp_path, in_repository):
        root = tmp_path / 'ade'
        for folder in ('images/training', 'annotations/training'):
            (root / folder).mkdir(parents=True)
        for name in ('images/training/a.jpg', 'images/training/b.jpg', 'annotations/training/a.png'):
            (root / name).touch()
        error = self.train(tmp_path, f'train_dataloader.dataset.data_root={root}', demo=False).error
        assert 'no label map for 1 images, such as b.jpg' in error

    def test_misspelt_config(self, tmp_path, in_repository):
        error = self.train(tmp_path, config='configs/ade20k/upernet_plek_t.py').error
        assert error.startswith('expected a config file, found none at configs/ade20k/upernet_plek_t.py; did you mean')
        assert 'configs/ade20k/upernet_pelk_t.py' in error

    @pytest.mark.parametrize(
        ('option', 'message'),
        [
            ('model.backbone.arch=huge', "arch of PeLK must be one of ['b', 'b_101', 's', 't', 't_101'], got 'huge'"),
            ('model.backbone.kernel_size=(9,8,7,7)', 'must have positive odd edges'),
            (
                'model.backbone.sharing_grid=[[3,1,3],[4,1,4],[3,1,3],[3,1,3]]',
                'sharing_grid must add up to kernel_size 9, got (3, 1, 3), which adds up to 7',
            ),
            ('model.backbone.kernels=5', "unexpected keyword argument 'kernels'"),
            ('model.backbone.type=mmlk.PELK', 'PELK is not in the'),
            ('model.decode_head.in_channels=[8,16,32]', 'AssertionError; MMLK_TRACEBACK=1 shows where'),
            ('train_dataloader.num_workers=-1', 'num_workers'),
        ],
    )
    def test_wrong_model(self, tmp_path, in_repository, option, message):
        assert message in self.train(tmp_path, option).error

    def test_missing_pretrained_weights(self, trained, tmp_path, in_repository, demo_root):
        # Without --demo, on the generated data, so that the config's own init_cfg stays.
        data = next(demo_root.glob('*/ADEChallengeData2016'))
        roots = [f'{name}_dataloader.dataset.data_root={data}' for name in ('train', 'val')]
        norms = ['model.decode_head.norm_cfg.type=BN', 'model.auxiliary_head.norm_cfg.type=BN']
        error = self.train(tmp_path, *roots, *norms, demo=False).error
        assert 'pretrained weights expected at checkpoints/pelk_t.pth, found no such file' in error
        assert 'configs/imagenet/pelk_t.py' in error
        assert '--cfg-options model.backbone.init_cfg=None' in error

    def test_checkpoint_of_another_network(self, trained, tmp_path, in_repository):
        other = 'model.backbone.depths=(1,2,1,1)'
        checkpoint = trained[0] / 'iter_12.pth'
        message = 'iter_12.pth does not fit EncoderDecoder: 8 keys missing (backbone.stages.1.blocks.1.'
        command = [CONFIG, checkpoint, '--demo', '--work-dir', tmp_path / 'wd', '--cfg-options', *TINY, other]
        assert message in run_tool('test.py', *command).error
        assert message in self.train(tmp_path, other, arguments=['--resume', checkpoint]).error

    def test_checkpoint_that_is_not_there_or_no_checkpoint(self, tmp_path, in_repository):
        broken = tmp_path / 'broken.pth'
        broken.write_bytes(b'not a checkpoint')
        for path in (tmp_path / 'none.pth', broken):
            command = [CONFIG, path, '--demo', '--work-dir', tmp_path / 'wd', '--cfg-options', *TINY]
            assert str(path) in run_tool('test.py', *command).error

    @pytest.mark.skipif('torch.cuda.is_available()', reason='the sentence is for machines without CUDA')
    def test_amp_without_cuda(self, tmp_path, in_repository):
        assert '--amp needs a CUDA device, found none' in self.train(tmp_path, arguments=['--amp']).error

    def test_wrong_flags(self, tmp_path, in_repository):
        (tmp_path / 'x.pth').touch()
        command = [CONFIG, tmp_path / 'x.pth', '--demo', '--work-dir', tmp_path / 'wd']
        assert '--out must end in .json (metrics) or .pkl' in run_tool('test.py', *command, '--out', 'a.txt').error
        result = run_tool('train.py', CONFIG, '--frobnicate')
        assert result.code == 2
        assert '--frobnicate' in result.err

    def test_bad_iterations(self, tmp_path, in_repository, monkeypatch):
        monkeypatch.setenv('MMLK_DEMO_ITERS', 'many')
        assert "MMLK_DEMO_ITERS must be a positive number of iterations, got 'many'" in self.train(tmp_path).error


@pytest.mark.parametrize('tool', ['train.py', 'test.py', 'quickstart_report.py'])
def test_help_has_examples(tool):
    result = run_tool(tool, '--help')
    assert result.code == 0
    assert f'examples:\n  python tools/{tool} ' in result.out


def test_report_of_something_else(tmp_path):
    error = run_tool('quickstart_report.py', str(tmp_path)).error
    assert error == f'expected the work directory of a training run, found no logged run in {tmp_path}'


def test_report_of_an_unfinished_run(tmp_path):
    log = tmp_path / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.5, "lr": 0.1, "step": 3}\n')
    assert run_tool('quickstart_report.py', str(tmp_path)).error.startswith(
        'expected a finished run, found no checkpoint'
    )
