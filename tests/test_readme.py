"""The README's code blocks run as a newcomer would run them, the quickstart with the real network among them.

In a copy of the checkout, in this environment instead of a new one, with few iterations; everything else is as printed.
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
NOT_COPIED = ('.git', '.venv*', 'work_dirs', 'data', 'build', 'dist', '.mim', '__pycache__', '*.egg-info', '.*_cache')


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', (ROOT / 'README.md').read_text(), re.M | re.S)


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp('newcomer') / 'mmlk checkout'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    # The README activates the environment that the quickstart makes; here it is active already.
    activate = copy / '.venv' / 'bin' / 'activate'
    activate.parent.mkdir(parents=True)
    activate.touch()
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


def test_train_test_and_predict(checkout, demo_root):
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
