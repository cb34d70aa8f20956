"""docs/reproducing.md states length and batch of every config, once."""

import fnmatch
import re

from mmengine.config import Config


def test_length_and_batch(repository):
    lines = re.findall(
        r'^\| `(\w+)/([^`]+)` \| (\d+) (epochs|iterations) \| (\d+) \|$',
        (repository / 'docs/reproducing.md').read_text(),
        re.M,
    )
    stated = []
    for folder, patterns, length, unit, batch in lines:
        stems = sorted(path.stem for path in (repository / 'configs' / folder).glob('*.py'))
        for pattern in patterns.split():
            matches = fnmatch.filter(stems, pattern)
            assert matches, f'{folder}/{pattern} is no config'
            for stem in matches:
                cfg = Config.fromfile(repository / 'configs' / folder / f'{stem}.py')
                steps = cfg.optim_wrapper.get('accumulative_counts', 1)
                key = 'max_epochs' if unit == 'epochs' else 'max_iters'
                assert cfg.train_cfg.get(key) == int(length), f'{folder}/{stem}'
                assert cfg.auto_scale_lr.base_batch_size * steps == int(batch), f'{folder}/{stem}'
                stated.append(f'{folder}/{stem}')
    leaves = (path for path in (repository / 'configs').glob('*/*.py') if path.parent.name != '_base_')
    assert sorted(stated) == sorted(f'{path.parent.name}/{path.stem}' for path in leaves)
