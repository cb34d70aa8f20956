"""YAML through mmengine: values, and no code."""

import pytest
import yaml
from mmengine.config import Config
from mmengine.fileio import dump, load

import mmlk  # noqa: F401


@pytest.mark.parametrize(
    'tag',
    [
        '!!python/object/apply:os.mkdir [{}]',
        '!!python/object/new:os.mkdir [{}]',
        '!!python/object/apply:subprocess.run [[mkdir, {}]]',
    ],
)
def test_no_code_runs(tmp_path, tag):
    path, canary = tmp_path / 'config.yaml', tmp_path / 'canary'
    path.write_text(f'model: {tag.format(canary)}\n')
    for read in (load, Config.fromfile):
        with pytest.raises(yaml.YAMLError, match='could not determine a constructor'):
            read(str(path))
    assert not canary.exists()


def test_what_mmengine_writes_is_read_again(tmp_path):
    path = str(tmp_path / 'config.yaml')
    content = dict(model=dict(depths=(1, (2, 3)), lr=1e-3, name=None, on=True), steps=[1, 'two'])
    dump(content, path)
    assert 'python/tuple' in (tmp_path / 'config.yaml').read_text()
    assert load(path) == content
    assert Config.fromfile(path).model.depths == (1, (2, 3))
