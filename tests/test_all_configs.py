"""The sweep over all configs: which it runs, how it shrinks them, what it writes, and its committed result."""

import json
import subprocess
from collections import Counter
from types import SimpleNamespace

import all_configs
import config_sweep
import pytest
from config_sweep import FULL_SIZE, STEPS, StepFailed, config_names, load, options_of

FAMILIES = ('PeLK', 'RepLKNet', 'SLaK', 'ShiftWiseNet', 'UniRepLKNet')


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command with stand-ins for the tools; returns status and entries."""
    monkeypatch.setattr(all_configs, 'short_demo', lambda: monkeypatch.context())
    # There are no networks whose memory has to be given back, and the garbage is that of the whole test session.
    monkeypatch.setattr(config_sweep, 'gc', SimpleNamespace(collect=int))
    results = tmp_path / 'results.json'

    def run(steps_of, *arguments):
        monkeypatch.setattr(config_sweep, 'steps_of', steps_of)
        command = ['all_configs.py', *arguments, '--results', str(results), '--work-dir', str(tmp_path / 'runs')]
        monkeypatch.setattr('sys.argv', command)
        status = all_configs.main()
        assert all_configs.as_table(json.loads(results.read_text())) == results.with_suffix('.md').read_text()
        return status, json.loads(results.read_text())['configs']

    return run


def all_steps(name, work_dir):
    yield from ((step, {'mIoU': 1.5}) for step in STEPS)


def test_one_network_per_host_and_family_has_its_full_size():
    configs = [load(name) for name in FULL_SIZE]
    found = Counter((cfg.default_scope, cfg.model.backbone.type.removeprefix('mmlk.')) for cfg in configs)
    assert found == {(host, family): 1 for host in ('mmseg', 'mmdet', 'mmpretrain') for family in FAMILIES}
    assert set(FULL_SIZE) < set(config_names())


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (
            'ade20k/upernet_pelk_b',
            {
                'model.backbone.depths=[1,1,1,1]',
                'model.backbone.width_factor=0.325',
                'model.decode_head.in_channels=[41,83,166,332]',
                'model.decode_head.channels=128',
                'model.auxiliary_head.in_channels=166',
                'model.auxiliary_head.channels=64',
            },
        ),
        (
            'coco/fcos_replknet_31b',
            {
                'model.backbone.depths=[1,1,1,1]',
                'model.backbone.channels=[32,64,128,256]',
                'model.neck.in_channels=[32,64,128,256]',
                'model.test_cfg.score_thr=0.0',
                'model.test_cfg.nms_pre=20',
            },
        ),
        (
            'imagenet/shiftwise_s',
            {'model.backbone.depths=[1,1,1,1]', 'model.backbone.width_factor=0.25', 'model.head.in_channels=192'},
        ),
        ('imagenet/pelk_t', set()),
    ],
)
def test_shrinks(name, expected):
    assert {option for option in options_of(name) if option.startswith('model.')} == expected


def test_goes_on_after_a_failure_and_says_what_failed(run):
    def steps_of(name, work_dir):
        yield 'train', {}
        if name == 'imagenet/slak_s':
            raise StepFailed('no | validation')
        yield from ((step, {'mIoU': 1.5}) for step in STEPS[1:])

    status, entries = run(steps_of, 'imagenet/slak_s', 'imagenet/slak_b')
    assert status == 1
    assert list(entries) == ['imagenet/slak_b', 'imagenet/slak_b_384', 'imagenet/slak_s']
    failed = entries['imagenet/slak_s']
    assert [failed[step] for step in STEPS] == ['passed', 'failed', 'not run', 'not run']
    assert failed['error'] == 'no | validation'
    assert config_sweep.passed(entries['imagenet/slak_b']) and entries['imagenet/slak_b']['error'] is None


def test_resumes_with_what_has_not_passed_or_has_changed(run, monkeypatch, capsys):
    assert run(all_steps, 'imagenet/slak_')[0] == 0

    def fails(name, work_dir):
        raise KeyError('in_channels')
        yield

    status, entries = run(fails, 'imagenet/slak_s')
    assert (status, entries['imagenet/slak_s']['error']) == (1, "KeyError: 'in_channels'")
    # As if the recipe of one had been edited.
    original = config_sweep.fingerprint
    changed = 'imagenet/slak_t'
    for module in (all_configs, config_sweep):
        monkeypatch.setattr(module, 'fingerprint', lambda name: 'edited' if name == changed else original(name))
    ran = []

    def note(name, work_dir):
        ran.append(name)
        yield from all_steps(name, work_dir)

    status, entries = run(note, 'imagenet/slak_', '--resume')
    assert (status, ran) == (0, ['imagenet/slak_s', changed])
    assert len(entries) == 7 and all(map(config_sweep.passed, entries.values()))
    assert '2 configs to run, 5 have passed before' in capsys.readouterr().out


def test_stopping_keeps_what_is_done(run, capsys):
    def steps_of(name, work_dir):
        if name == 'imagenet/slak_t':
            raise KeyboardInterrupt
        yield from all_steps(name, work_dir)

    status, entries = run(steps_of, 'imagenet/slak_')
    assert (status, list(entries)) == (130, ['imagenet/slak_b', 'imagenet/slak_b_384', 'imagenet/slak_s'])
    assert 'continue with the same command and --resume' in capsys.readouterr().out


def test_errors_of_a_tool_become_the_sentence():
    with pytest.raises(StepFailed, match='^expected a config file, found none at configs/none.py; '):
        config_sweep.run_tool('train.py', 'configs/none.py')


def test_no_such_config(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['all_configs.py', 'swin'])
    with pytest.raises(SystemExit) as stop:
        all_configs.main()
    assert stop.value.code == 2
    assert "no config has one of ['swin'] in its name" in capsys.readouterr().err


def test_help_needs_no_environment(repository):
    result = subprocess.run(['bash', repository / 'tests/all_configs.sh', '--help'], capture_output=True, text=True)
    assert result.returncode == 0
    assert 'usage: bash tests/all_configs.sh' in result.stdout and '--resume' in result.stdout


def test_committed_result(repository):
    """Every config that exists has passed, and the table is that of the data."""
    path = repository / all_configs.RESULTS
    content = json.loads(path.read_text())
    assert sorted(content['configs']) == config_names()
    assert [name for name, entry in content['configs'].items() if not config_sweep.passed(entry)] == []
    assert path.with_suffix('.md').read_text() == all_configs.as_table(content)
