"""tools/draw_kernels.py from the command line."""

import cv2
import pytest
from tool_runner import run_tool

CONFIG = 'configs/imagenet/slak_t.py'
TINY = (
    '--cfg-options',
    'model.backbone.depths=(1,2,1,1)',
    'model.backbone.width_factor=0.0834',
    'model.backbone.kernel_size=(9,11,7,7,3)',
)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


def test_kernels_of_a_stage(tmp_path):
    out = tmp_path / 'kernels.png'
    result = run_tool('draw_kernels.py', CONFIG, '--stage', 1, '--channels', 3, '--out', out, *TINY)
    assert result.code == 0, result.err
    assert '2 large kernels in stage 1, of number 1: 16 channels, 11 x 11' in result.out
    assert 'slak_t has random weights' in result.out
    assert cv2.imread(str(out)).shape[0] > 400


def test_sharing_grid(tmp_path):
    out = tmp_path / 'grid.png'
    assert run_tool('draw_kernels.py', '--sharing-grid', 51, '--out', out).code == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'expected either a CONFIG or --sharing-grid K, got both or neither; see --help'),
        ((CONFIG, '--out', 'a.jpg'), '--out must be a file ending in .png, got a.jpg'),
        ((CONFIG, '--stage', '4', *TINY), '--stage must be between 0 and 3, got 4'),
        ((CONFIG, '--stage', '1', '--block', '2', *TINY), '--block must be between 0 and 1 in stage 1, got 2'),
        (('--sharing-grid', '50'), 'must have positive odd edges'),
    ],
)
def test_one_sentence(arguments, message):
    assert message in run_tool('draw_kernels.py', *arguments).error
