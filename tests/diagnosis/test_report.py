"""The report as text and as data."""

import json

from mmlk.diagnosis import packages, to_dict, to_lines
from mmlk.diagnosis.probes import Step
from mmlk.diagnosis.report import Report, find_configs
from mmlk.diagnosis.rules import judge


def make_report(facts) -> Report:
    return Report(facts, judge(facts), ('/configs', 94))


def test_lines(facts):
    steps = {
        'torchvision': Step('torchvision', False, 'RuntimeError: operator torchvision::nms does not exist'),
        'mmdet': Step('mmdet', False, "ModuleNotFoundError: No module named 'pycocotools'"),
        'mmcv': Step('mmcv', True, facts={'version': '2.1.0', 'compiled': False}, seconds=1.0),
        'ops': Step(
            'ops',
            True,
            facts={
                'backends': [
                    {'op': 'f', 'device': 'cpu', 'name': 'triton', 'reason': 'it needs CUDA', 'chosen': False},
                    {'op': 'f', 'device': 'cpu', 'name': 'cpu', 'reason': '', 'chosen': True},
                ],
                'error': {'cpu': 1.5e-7},
            },
        ),
    }
    lines = to_lines(make_report(facts(steps=steps, variables={'OMP_NUM_THREADS': '2'})))
    text = '\n'.join(' '.join(line.split()) for line in lines)
    for part in (
        'family upstream',
        'mmcv mmcv-lite 2.1.0 (upstream, fallback operators of mmlk)',
        'onnx not installed',
        'torch 2.11.0+cu130, CUDA 13.0, GPU: none, 2 threads, AVX512',
        'torchvision FAILS: RuntimeError: operator torchvision::nms does not exist',
        'mmdet needs pycocotools, not installed',
        'f, cpu, triton cannot run: it needs CUDA',
        'f, cpu, cpu runs, chosen for a small example',
        'error against float64, cpu 1.5e-07',
        'OMP_NUM_THREADS 2',
        'problem: torchvision fails: torch and torchvision were built for different versions',
        'cure: install both from one source',
    ):
        assert part in text, (part, text)
    assert lines[-1] == '2 problems'
    # Problems come before notes.
    kinds = [line.partition(':')[0] for line in lines if line.startswith(('problem', 'note'))]
    assert kinds == sorted(kinds, reverse=True)


def test_healthy(facts):
    assert to_lines(make_report(facts()))[-1] == 'healthy: no problems'


def test_data(facts):
    good = json.loads(json.dumps(to_dict(make_report(facts()))))
    assert good['healthy'] and good['problems'] == [] and good['configs'] == {'folder': '/configs', 'number': 94}
    assert good['distributions']['mmdet'] == '3.3.0' and good['family']['name'] == 'upstream'
    assert good['steps']['torch']['facts']['cuda_build'] == '13.0'
    bad = to_dict(make_report(facts({'torchvision': '0.1.0'})))
    assert not bad['healthy'] and all(entry['what'] and entry['cure'] for entry in bad['problems'])


def test_configs(tmp_path, repository):
    folder, count = find_configs()
    assert count > 80 and folder.endswith('configs')
    assert find_configs(tmp_path / 'mmlk') == ('', 0)
    installed = tmp_path / 'mmlk' / '.mim' / 'configs' / 'ade20k'
    installed.mkdir(parents=True)
    (installed / 'a.py').touch()
    assert find_configs(tmp_path / 'mmlk') == (str(installed.parent), 1)


def test_damaged_records(tmp_path, monkeypatch):
    for name in ('a-1.dist-info', 'b-2.dist-info'):
        (tmp_path / name).mkdir()
    (tmp_path / 'b-2.dist-info/METADATA').write_text('Name: B.b_B\nVersion: 2\n')
    monkeypatch.setattr('sys.path', [str(tmp_path)])
    assert packages.installed() == {'b-b-b': '2'}


def test_release():
    assert packages.release('2.11.0+cu130') == (2, 11, 0) and packages.release('0.26.0rc1') == (0, 26, 0)
    assert packages.release('main') == ()
