"""The README's code blocks run as a newcomer would run them, the quickstart with the real network among them.

In a copy of the checkout, in this environment instead of a new one, with few iterations and pictures; everything else
is as printed.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Where the demo has its number of pictures, and how many are enough to run every line. The copy has only these.
PICTURES = 'mmlk/datasets/demo/recipe.py'
FEW = {'num_train: int = 240': 'num_train: int = 8', 'num_val: int = 40': 'num_val: int = 4'}
CONFIG = 'configs/ade20k/upernet_pelk_t.py'
SMALL = """
model['backbone'].update(depths=(1, 1, 1, 1), width_factor=0.0834, kernel_size=(9, 9, 7, 7))
model['decode_head'].update(in_channels=[8, 16, 32, 64], channels=8)
model['auxiliary_head'].update(in_channels=32, channels=8)
"""
NOT_COPIED = ('.git', '.venv*', 'work_dirs', 'data', 'build', 'dist', '.mim', '__pycache__', '*.egg-info', '.*_cache')


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', (ROOT / 'README.md').read_text(), re.M | re.S)


def copy_checkout(folder: Path) -> Path:
    copy = folder / 'mmlk checkout'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    # The README activates the environment that the quickstart makes; here it is active already.
    activate = copy / '.venv' / 'bin' / 'activate'
    activate.parent.mkdir(parents=True)
    activate.touch()
    settings = (copy / PICTURES).read_text()
    for many, few in FEW.items():
        assert settings.count(many) == 1
        settings = settings.replace(many, few)
    (copy / PICTURES).write_text(settings)
    return copy


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp('newcomer'))


@pytest.fixture(scope='module')
def small_checkout(tmp_path_factory) -> Path:
    """One whose network is small: what the quickstart has shown at full size is the same command."""
    copy = copy_checkout(tmp_path_factory.mktemp('small'))
    with (copy / CONFIG).open('a') as config:
        config.write(SMALL)
    return copy


def run(command: list[str], checkout: Path, demo_root: Path) -> str:
    environment = os.environ | {
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': str(checkout),
        'MMLK_PYTHON': sys.executable,
        'MMLK_DEMO_ROOT': str(demo_root),
        'MMLK_DEMO_ITERS': '2',
    }
    result = subprocess.run(
        command,
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = result.stdout.decode()
    assert result.returncode == 0, output[-5000:]
    return output


def test_every_block_is_run_here():
    assert [block.split()[:2] for block in blocks('bash')] == [
        ['bash', 'tools/quickstart.sh'],
        ['source', '.venv/bin/activate'],
        ['checkpoint=$(cat', 'work_dirs/upernet_pelk_t_demo/last_checkpoint)'],
    ]
    assert len(blocks('python')) == 2


def test_quickstart(checkout, demo_root):
    """The full network at the demo's crop: trained, validated, fused, tested, drawn, reported."""
    output = run(['bash', '-ec', blocks('bash')[0]], checkout, demo_root)
    work_dir = checkout / 'work_dirs' / 'quickstart'
    for row in (
        'iterations',
        'final loss',
        'mIoU (%), classes present',
        'mIoU (%), classes present, fused',
        'mIoU (%), far pair',
        'colour of a pixel alone',
    ):
        assert row in output
    figures = re.findall(r'mIoU \(%\), classes present(?:, fused)? +│ +([\d.]+)', output)
    assert len(figures) == 2 and float(figures[0]) == pytest.approx(float(figures[1]), abs=0.02)
    fused = work_dir / 'fused' / 'upernet_pelk_t.pth'
    pictures = work_dir / 'predictions.png', work_dir / 'erf' / 'erf.png'
    for path in (work_dir / 'iter_2.pth', fused, fused.with_suffix('.py'), *pictures):
        assert str(path) in output
        assert path.is_file()
    assert re.search(rf'{re.escape(str(work_dir))}/\d+_\d+/\d+_\d+\.log', output)
    for picture in pictures:
        assert cv2.imread(str(picture)).std() > 30


def test_train_test_and_predict(small_checkout, demo_root):
    checkout = small_checkout
    _, train, test = blocks('bash')
    predict, _ = blocks('python')
    run(['bash', '-ec', train], checkout, demo_root)
    run(['bash', '-ec', test], checkout, demo_root)
    assert (checkout / 'metrics.json').is_file()
    run([sys.executable, '-c', predict], checkout, demo_root)
    assert cv2.imread(str(checkout / 'prediction.png')) is not None


def test_layers_alone(checkout, demo_root):
    assert 'torch.Size([1, 64, 14, 14])' in run([sys.executable, '-c', blocks('python')[1]], checkout, demo_root)


@pytest.mark.parametrize(
    'page', [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
        if '://' not in target:
            assert page.parent.joinpath(target).exists(), target
