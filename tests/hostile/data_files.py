"""Damaged data sets and pictures through the tools: what can be read is used, the rest is named with its path."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hostile.campaign import ROOT, SENTENCE, WORKED, Attempt, Campaign, Place, Wrong, command
from hostile.config_files import as_python
from hostile.config_runs import REFUSALS, surroundings
from hostile.damage import (
    FILES,
    OTHER_SIZE,
    READABLE,
    UNREADABLE,
    damage_annotations,
    damage_folder,
    damage_label_map,
    damage_list,
    damage_picture,
)

from mmlk.errors import UsageError

#: Data set -> config, family, and its parts for training and for validation: pictures, labels.
LAYOUTS = {
    'ade20k': ('configs/ade20k/upernet_pelk_t.py', ('images/training', 'annotations/training'),
               ('images/validation', 'annotations/validation')),
    'cityscapes': ('configs/cityscapes/upernet_replknet_31b_769.py', ('leftImg8bit/train', 'gtFine/train'),
                   ('leftImg8bit/val', 'gtFine/val')),
    'coco': ('configs/coco/cascade_mask_rcnn_pelk_t.py', ('train2017', 'annotations/instances_train2017.json'),
             ('val2017', 'annotations/instances_val2017.json')),
    'imagenet': ('configs/imagenet/pelk_t.py', ('train', 'meta/train.txt'), ('val', 'meta/val.txt')),
}  # fmt: skip
WITH_LABEL_MAPS = ('ade20k', 'cityscapes')
TRAINING, VALIDATION = 0, 1


@dataclass(frozen=True)
class Shared:
    """What all cases start from.

    Attributes:
        data: Data set -> folder with a small one as ``--demo`` makes it.
        configs: Data set -> complete config of a tiny network on it.
        checkpoints: Data set -> checkpoint of the network.
        demo_root: Above the data.
    """

    data: dict[str, Path]
    configs: dict[str, str]
    checkpoints: dict[str, Path]
    demo_root: Path


def prepare(folder: Path) -> Shared:
    import torch
    from config_sweep import short_demo
    from mmengine.config import Config, DictAction
    from tiny_models import head_options, tiny_case, trained_like

    from mmlk.cli.config import read_config
    from mmlk.datasets.demo.demo_config import apply_demo

    _, replknet = tiny_case('mmseg', 'replknet')
    data, configs, checkpoints = {}, {}, {}
    with contextlib.chdir(ROOT), short_demo(), contextlib.redirect_stdout(sys.stderr):
        for name, (config, _, _) in LAYOUTS.items():
            host = {'coco': 'mmdet', 'imagenet': 'mmpretrain'}.get(name, 'mmseg')
            for package in ('models', 'datasets', 'visualization', 'evaluation'):
                import_module(f'{host}.{package}')
            shrink = replknet if name == 'cityscapes' else tiny_case(host, 'pelk')[1]
            assert set(head_options(host)) <= set(shrink)
            pairs = (option.split('=', 1) for option in (*shrink, 'default_hooks.logger.interval=1'))
            cfg = read_config(config, {key: DictAction._parse_iterable(value) for key, value in pairs})
            apply_demo(cfg, iterations=2, data_root=folder / 'demo')
            configs[name] = as_python(cfg.to_dict())
            data[name] = Path(cfg.train_dataloader.dataset.data_root)
            checkpoints[name] = folder / f'{name}.pth'
            torch.save({'state_dict': trained_like(cfg).state_dict(), 'meta': {}}, checkpoints[name])
            assert Config.fromstring(configs[name], '.py').model
    return Shared(data, configs, checkpoints, folder / 'demo')


def copied(place: Place, name: str) -> Path:
    """A copy of a small data set, in a folder of this case."""
    source = place.shared.data[name]
    shutil.copytree(source.parent, place.folder / 'demo')
    return place.folder / 'demo' / source.name


def run_on(place: Place, name: str, root: Path, tool: str, rng: random.Random) -> None:
    """Train or test on a copy."""
    text = place.shared.configs[name].replace(str(place.shared.data[name]), str(root))
    # The errors of a worker arrive in another process.
    if rng.random() < 0.5:
        text = text.replace("'num_workers': 0", "'num_workers': 2")
    path = place.folder / 'config.py'
    path.write_text(text)
    work_dir = ('--work-dir', str(place.folder / 'run'))
    with surroundings(place):
        if tool == 'train.py':
            command(tool, str(path), *work_dir, refusals=REFUSALS)
        else:
            command(tool, str(path), str(place.shared.checkpoints[name]), *work_dir, refusals=REFUSALS)


def check(place: Place, name: str, root: Path) -> None:
    """``tools/check_data.py``; a problem that it finds is a sentence."""
    with surroundings(place):
        result = command('check_data.py', name, str(root), '--all', statuses=(0, 1))
    problems = [line.removeprefix('problem: ') for line in result.out.splitlines() if line.startswith('problem: ')]
    if name == 'imagenet':
        # Two pictures are of two classes.
        few = [problem for problem in problems if 'pictures of 2 classes instead of 8' in problem]
        problems = [problem for problem in problems if problem not in few]
        if few and not problems:
            return
    if result.code == 1 and not problems:
        raise Wrong('status 1 without a problem')
    if problems:
        raise UsageError(' '.join(problems)[:1400])


def some_file(root: Path, part: str, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in (root / part).rglob('*') if path.is_file()))


def with_picture(tool: str, part: int):
    """A kind: one damaged picture in a data set."""

    def case(rng: random.Random, place: Place) -> Attempt:
        name = rng.choice(list(LAYOUTS))
        root = copied(place, name)
        path = some_file(root, LAYOUTS[name][1 + part][0], rng)
        what, fate = damage_picture(path, rng)
        text = f'{name}: {path.name} {what}'
        expects = {UNREADABLE: SENTENCE, READABLE: WORKED}.get(fate or '')
        if tool == 'check_data.py':
            stem = path.stem.removesuffix('_leftImg8bit')
            return Attempt(text, lambda: check(place, name, root), (path.name, stem), expects)
        # Where the pictures are what is found in a folder, nobody misses one.
        if name in WITH_LABEL_MAPS and what in FILES:
            expects = None
        # A picture of another size than its label map cannot be trained with; boxes are not compared with pixels.
        return Attempt(text, lambda: run_on(place, name, root, tool, rng), (path.name,), expects)

    return case


def with_label_map(tool: str, part: int):
    """A kind: one damaged label map in a data set."""

    def case(rng: random.Random, place: Place) -> Attempt:
        name = rng.choice(WITH_LABEL_MAPS)
        root = copied(place, name)
        path = some_file(root, LAYOUTS[name][1 + part][1], rng)
        what, fate = damage_label_map(path, rng)
        text = f'{name}: {path.name} {what}'
        expects = {UNREADABLE: SENTENCE, READABLE: WORKED}.get(fate or '')
        stem = path.name.removesuffix('.png').removesuffix('_gtFine_labelTrainIds')
        # What has no label map is the picture.
        names = (path.name, stem, f'{stem}.jpg', f'{stem}_leftImg8bit.png')
        expects = SENTENCE if fate == OTHER_SIZE else expects
        if tool == 'check_data.py':
            return Attempt(text, lambda: check(place, name, root), names, expects)
        return Attempt(text, lambda: run_on(place, name, root, tool, rng), names, expects)

    return case


def with_annotations(tool: str, part: int):
    """A kind: a damaged annotation file of COCO."""

    def case(rng: random.Random, place: Place) -> Attempt:
        root = copied(place, 'coco')
        path = root / LAYOUTS['coco'][1 + part][1]
        what = damage_annotations(path, rng)
        if tool == 'check_data.py':
            return Attempt(what, lambda: check(place, 'coco', root), (path.name, LAYOUTS['coco'][1 + part][0]))
        # Some damage shows with the picture that is read first.
        pictures = [one.name for one in (root / LAYOUTS['coco'][1 + part][0]).iterdir()]
        return Attempt(
            what, lambda: run_on(place, 'coco', root, tool, rng), (path.name, 'passwd', 'x00b.jpg', *pictures)
        )

    return case


def with_list(rng: random.Random, place: Place) -> Attempt:
    root = copied(place, 'imagenet')
    tool, part = rng.choice([('train.py', 0), ('train.py', 1), ('test.py', 1), ('check_data.py', 0)])
    path = root / LAYOUTS['imagenet'][1 + part][1]
    what = f'{tool}: {path.name} {damage_list(path, rng)}'
    if tool == 'check_data.py':
        return Attempt(what, lambda: check(place, 'imagenet', root))
    return Attempt(what, lambda: run_on(place, 'imagenet', root, tool, rng))


def with_folders(rng: random.Random, place: Place) -> Attempt:
    name = rng.choice(list(LAYOUTS))
    root = copied(place, name)
    parts = [part for parts in LAYOUTS[name][1:] for part in parts if '.' not in part]
    what, path = damage_folder(root, (*parts, parts[0].split('/')[0]), rng)
    tool = rng.choice(['train.py', 'test.py', 'check_data.py'])
    text = f'{tool}: {name}: {path.relative_to(root)} {what}'
    if tool == 'check_data.py':
        return Attempt(text, lambda: check(place, name, root), expects=SENTENCE)
    return Attempt(text, lambda: run_on(place, name, root, tool, rng))


def predicted(rng: random.Random, place: Place) -> Attempt:
    """One's own pictures through ``tools/predict.py``."""
    name = rng.choice(['ade20k', 'coco', 'imagenet'])
    pictures = place.folder / 'pictures'
    pictures.mkdir()
    for suffix in ('good.jpg', 'damaged.jpg'):
        shutil.copy(ROOT / 'docs/images/scene.jpg', pictures / suffix)
    what, fate = damage_picture(pictures / 'damaged.jpg', rng)
    single = fate != UNREADABLE and rng.random() < 0.3
    config = place.folder / 'config.py'
    config.write_text(place.shared.configs[name])
    out = place.folder / 'out'
    source = pictures / 'damaged.jpg' if single else pictures

    def run() -> None:
        arguments = (str(config), str(place.shared.checkpoints[name]), str(source), '--out', str(out))
        with surroundings(place):
            result = command('predict.py', *arguments, statuses=(0, 1))
        problems = [line for line in result.err.splitlines() if line.startswith('problem: ')]
        if not single:
            found = json.loads((out / 'predictions.json').read_text())
            files = [one.get('file') or one['file_name'] for one in found.get('predictions') or found['images']]
            if 'good.jpg' not in files:
                raise Wrong(f'the picture beside the damaged one was not predicted, only {files}')
        if problems:
            raise UsageError(problems[0].removeprefix('problem: '))

    expects = {UNREADABLE: SENTENCE, READABLE: WORKED}.get(fate or '')
    # A folder is no picture to a folder of pictures, and what is not there is missed by nobody.
    if what in ('missing', 'a folder'):
        expects = None
    return Attempt(f'{name}: damaged.jpg {what}', run, ('damaged.jpg',), expects)


def right(rng: random.Random, place: Place) -> Attempt:
    """Nothing is damaged: all of this is worth nothing where right data is refused."""
    name, tool = rng.choice(list(LAYOUTS)), rng.choice(['train.py', 'test.py', 'check_data.py'])
    root = copied(place, name)
    if tool == 'check_data.py':
        return Attempt(f'{tool}: {name}', lambda: check(place, name, root), expects=WORKED)
    return Attempt(f'{tool}: {name}', lambda: run_on(place, name, root, tool, rng), expects=WORKED)


CAMPAIGN = Campaign(
    'data',
    {
        'right data': right,
        'picture, in training': with_picture('train.py', TRAINING),
        'picture, in validation': with_picture('train.py', VALIDATION),
        'picture, in a test': with_picture('test.py', VALIDATION),
        'picture, in check_data': with_picture('check_data.py', TRAINING),
        'picture, in predict': predicted,
        'label map, in training': with_label_map('train.py', TRAINING),
        'label map, in a test': with_label_map('test.py', VALIDATION),
        'label map, in check_data': with_label_map('check_data.py', TRAINING),
        'COCO annotations, in training': with_annotations('train.py', TRAINING),
        'COCO annotations, in a test': with_annotations('test.py', VALIDATION),
        'COCO annotations, in check_data': with_annotations('check_data.py', TRAINING),
        'list of ImageNet': with_list,
        'folders': with_folders,
    },
    cases=210,
    limit=120.0,
    prepare=prepare,
)
