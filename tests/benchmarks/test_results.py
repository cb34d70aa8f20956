"""The schema accepts what the tools write and nothing else."""

import copy
import json

import pytest
from result_files import RUN

from mmlk.benchmarks.results import SCHEMA, find_errors, write_results

TIMING = {'median_ms': 1.5, 'min_ms': 1.0, 'repeats': 3}
MODEL = {
    'kind': 'model',
    'run': RUN,
    'settings': {
        'command': 'benchmark_model.py',
        'config': 'c.py',
        'part': 'model',
        'batch_size': 2,
        'image_size': [64, 64],
        'amp': None,
        'host': 'mmseg',
    },
    'rows': [
        {
            'mode': 'train',
            'form': 'train',
            'compiled': False,
            'backend': None,
            'step': TIMING,
            'images_per_s': 3.0,
            'peak_mib': None,
        }
    ],
}


def damaged(*path, value=None, remove=False):
    results = copy.deepcopy(MODEL)
    target = results
    for name in path[:-1]:
        target = target[name]
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return results


def test_valid():
    assert find_errors(MODEL) == []


@pytest.mark.parametrize(
    ('results', 'error'),
    [
        (damaged('kind', value='other'), "$.kind must be 'model', got 'other'"),
        (damaged('run', remove=True), "$ lacks 'run'"),
        (damaged('rows', value=[]), '$.rows has 0 items, expected 1 or more'),
        (damaged('rows', 0, 'images_per_s', value=float('nan')), '$.rows[0].images_per_s must be number, got nan'),
        (damaged('rows', 0, 'images_per_s', value=0), '$.rows[0].images_per_s must be more than 0, got 0'),
        (damaged('rows', 0, 'step', 'repeats', value=0), '$.rows[0].step.repeats must be 1 or more, got 0'),
        (damaged('rows', 0, 'step', 'repeats', value=1.5), '$.rows[0].step.repeats must be integer, got 1.5'),
        (damaged('rows', 0, 'compiled', value=1), '$.rows[0].compiled must be boolean, got 1'),
        (damaged('rows', 0, 'peak_mib', value=True), '$.rows[0].peak_mib must be number or null, got True'),
        (damaged('rows', 0, 'speed', value=1), "$.rows[0] has 'speed', which the schema does not know"),
        (damaged('rows', 0, 'mode', value='test'), "$.rows[0].mode must be one of ['train', 'inference'], got 'test'"),
        (damaged('run', 'date', value='yesterday'), '$.run.date must match ^'),
        (damaged('run', 'commit', value='abc'), '$.run.commit must match ^'),
        (damaged('run', 'flags', 'tf32', value='yes'), "$.run.flags.tf32 must be boolean, got 'yes'"),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_damaged(results, error, tmp_path):
    assert any(found.startswith(error) for found in find_errors(results)), find_errors(results)
    target = tmp_path / 'results.json'
    with pytest.raises(ValueError, match='do not match the schema'):
        write_results(results, target)
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_and_leaves_nothing_beside(tmp_path):
    target = tmp_path / 'new' / 'results.json'
    for _ in range(2):
        assert write_results(MODEL, target) == target
    assert json.loads(target.read_text()) == MODEL
    assert list(target.parent.iterdir()) == [target]


def test_an_unknown_keyword_is_not_ignored():
    with pytest.raises(ValueError, match='maxLength'):
        find_errors('text', {'type': 'string', 'maxLength': 2})


def test_one_schema_for_package_and_results(repository):
    folder = repository / 'benchmarks' / 'results'
    assert (folder / 'schema.json').read_text() == SCHEMA.read_text()


def test_committed_results_are_valid(repository):
    for path in (repository / 'benchmarks' / 'results').glob('*.json'):
        if path.name != 'schema.json':
            assert find_errors(json.loads(path.read_text())) == [], path.name
