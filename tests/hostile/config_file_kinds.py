"""Files that are no config, or hardly one; options, work directories and tools around it."""

from __future__ import annotations

import json
import random
from pathlib import Path

from hostile.campaign import ROOT, SENTENCE, Attempt, Place, command
from hostile.config_files import as_python, changed, literal, without
from hostile.config_runs import FAMILIES, HOSTS, REFUSALS, any_config, surroundings, train, train_file
from hostile.config_values import OPTIONS


def base_files(rng: random.Random, place: Place) -> Attempt:
    leaf = str(ROOT / 'configs/imagenet/pelk_t.py')
    other = place.folder / 'other.py'
    texts = {
        'missing base': "_base_ = ['nothing/here.py']\n",
        'missing base of mmlk': "_base_ = ['mmlk::imagenet/pelk_tt.py']\n",
        'base of a scope that is not installed': "_base_ = ['mmyolo::yolov5.py']\n",
        'base that is itself': "_base_ = ['config.py']\n",
        'circular bases': "_base_ = ['other.py']\n",
        'base that is a folder': "_base_ = ['.']\n",
        'base that is a number': '_base_ = 5\n',
        'base that is None': '_base_ = [None]\n',
        'base with a key twice': f"_base_ = ['other.py', {leaf!r}]\n",
        'value of a base that is not there': f'_base_ = [{leaf!r}]\nmodel = _base_.nothing\n',
        'variable of a base that is not there': f"_base_ = [{leaf!r}]\nx = {{{{_base_.nothing}}}}\n",
        'dictionary over a number': f"_base_ = [{leaf!r}]\ntrain_cfg = dict(max_epochs=dict(a=1))\n",
        'number over a dictionary': f'_base_ = [{leaf!r}]\nmodel = 5\n',
        '_delete_ of everything': f'_base_ = [{leaf!r}]\nmodel = dict(_delete_=True)\n',
        'index outside of a list of the base': f"_base_ = [{leaf!r}]\nparam_scheduler = {{'7': dict(begin=5)}}\n",
        'empty list of bases': '_base_ = []\n',
        'base in a format of another kind': f"_base_ = [{str(ROOT / 'README.md')!r}]\n",
    }  # fmt: skip
    what = rng.choice(list(texts))
    if what == 'circular bases':
        other.write_text("_base_ = ['config.py']\n")
    elif what == 'base with a key twice':
        other.write_text('model = dict(type=5)\n')
    return train(place, texts[what], what, '--demo', expects=SENTENCE)


def contents(rng: random.Random, place: Place) -> Attempt:
    """What may be in a file by the name of a config."""
    whole = as_python(place.shared.demo['mmseg', 'pelk'])
    texts: dict[str, str | bytes] = {
        'nothing': '',
        'a blank line': '\n',
        'a comment': '# later\n',
        'a syntax error': whole + 'model = dict(\n',
        'an indented line': whole + '    model = 5\n',
        'half of a config': whole[: len(whole) // 3],
        'bytes that are not UTF-8': whole.encode() + b'\n# caf\xe9 \xff\xfe\n',
        'UTF-16': whole.encode('utf-16'),
        'zero bytes': b'\0' * 100,
        'a picture': (ROOT / 'docs/images/scene.jpg').read_bytes()[:5000],
        'an import that fails': 'import no_such_module\n' + whole,
        'an error': whole + 'raise ValueError("no")\n',
        'a division by zero': whole + 'lr = 1 / 0\n',
        'a name that is not there': whole + 'lr = learning_rate\n',
        'endless recursion': whole + 'def again():\n    return again()\nagain()\n',
        'deep nesting': whole + f'x = {"[" * 300}{"]" * 300}\n',
        'deep parentheses': f'x = {"(" * 5000}{")" * 5000}\n',
        'a reserved name': whole + "filename = 'x'\n",
        'a function and a class': whole + 'def f():\n    return 1\nclass A:\n    pass\n',
        'a dictionary that contains itself': whole + 'x = {}\nx["x"] = x\n',
        'sys.exit': whole + 'import sys\nsys.exit(3)\n',
        'tabs and spaces': whole + 'if True:\n\tx = 1\n        y = 2\n',
        'only a model': 'model = ' + literal(place.shared.demo['mmseg', 'pelk']['model']) + '\n',
        'a number as a key': whole + 'x = {1: 2, None: 3}\n',
    }
    what = rng.choice(list(texts))
    return train(place, texts[what], f'file with {what}')


def file_kinds(rng: random.Random, place: Place) -> Attempt:
    """Names and formats of the file itself."""
    config = place.shared.demo['mmpretrain', 'pelk']
    plain = json.dumps(config)
    cases: dict[str, tuple[str, str | bytes]] = {
        'JSON': ('config.json', plain),
        'YAML': ('config.yaml', plain),
        'JSON that breaks off': ('config.json', plain[:500]),
        'YAML that breaks off': ('config.yaml', 'model: [1, 2\n  b: }'),
        'YAML of one word': ('config.yml', 'model'),
        'YAML with a tag that would run code': ('config.yaml', '!!python/object/apply:os.system ["touch ../canary"]'),
        'JSON list': ('config.json', '[1, 2]'),
        'JSON nested deeply': ('config.json', '{"a":' * 3000 + '1' + '}' * 3000),
        'other suffix': ('config.txt', as_python(config)),
        'no suffix': ('config', as_python(config)),
        'dots in the name': ('my.first.config.py', as_python(config)),
        'blank in the name': ('my config.py', as_python(config)),
        'name of a module': ('json.py', as_python(config)),
        'suffix in capitals': ('config.PY', as_python(config)),
        'name with a brace': ('{config}.py', as_python(config)),
    }
    special = (
        'folder',
        'link that leads nowhere',
        'link to itself',
        'missing',
        'device',
        'empty name',
        'long name',
        'no scope',
    )
    what = rng.choice([*cases, *special])
    if what in cases:
        name, content = cases[what]
        return train(place, content, f'config as {what}', name=name)
    path = place.folder / 'config.py'
    if what == 'folder':
        path.mkdir()
    elif what == 'link that leads nowhere':
        path.symlink_to('nothing.py')
    elif what == 'link to itself':
        path.symlink_to(path.name)
    paths = {'device': '/dev/null', 'empty name': '', 'long name': 'x' * 300 + '.py', 'no scope': 'nothing::a.py'}
    return train_file(place, Path(paths[what]) if paths.get(what) else path, f'config is {what}', expects=SENTENCE)


def options(rng: random.Random, place: Place) -> Attempt:
    """``--cfg-options`` of the wrong kind."""
    (host, family), _, _ = any_config(rng, place)
    config = place.shared.demo[host, family]
    option = rng.choice(OPTIONS)
    return train(place, config, f'{family} on {host}: --cfg-options {option[:80]!r}', '--cfg-options', option)


def work_dirs(rng: random.Random, place: Place) -> Attempt:
    config = place.shared.demo['mmpretrain', rng.choice(FAMILIES)]
    file = place.folder / 'file'
    file.write_text('in the way')
    where = rng.choice([
        str(file), str(file / 'below'), '/proc/nothing', '/dev/null', 'x' * 300, 'a\0b', '', '/proc/self/mem/x', 'ä ö',
        str(place.folder / 'link'),
    ])  # fmt: skip
    (place.folder / 'link').symlink_to('link')
    if rng.random() < 0.5 and where:
        return train(place, config, f'--work-dir {where[:60]!r}', '--work-dir', where)
    what = f'work_dir = {where[:60]!r} in the config'
    path = place.folder / 'config.py'
    path.write_text(as_python({**config, 'work_dir': where}))

    def run() -> None:
        with surroundings(place):
            command('train.py', str(path), refusals=REFUSALS)

    return Attempt(what, run)


def other_tools(rng: random.Random, place: Place) -> Attempt:
    """The same mistakes through the other tools."""
    host = rng.choice(HOSTS)
    config = place.shared.demo[host, 'pelk']
    backbone = config['model']['backbone']
    what, broken = rng.choice([
        ('without a model', without(config, ('model',))),
        ('without a backbone', without(config, ('model', 'backbone'))),
        ('without default_scope', without(config, ('default_scope',))),
        ('default_scope None', {**config, 'default_scope': None}),
        ('model 5', {**config, 'model': 5}),
        ('unknown type', changed(config, ('model', 'type'), 'NoModel')),
        ('unknown backbone', changed(config, ('model', 'backbone', 'type'), 'mmlk.PELK')),
        ('even kernel', changed(config, ('model', 'backbone'), {**backbone, 'kernel_size': (8, 9, 7, 7)})),
        ('wrong depth', changed(config, ('model', 'backbone', 'depths'), (1, 2, 1, 1))),
        ('no test data', {**config, 'test_dataloader': None}),
        ('test data 5', {**config, 'test_dataloader': 5}),
        ('no pipeline', without(config, ('test_dataloader', 'dataset', 'pipeline'))),
        ('strange pipeline', changed(config, ('test_dataloader', 'dataset', 'pipeline'), [5])),
        ('unknown transform', changed(config, ('test_dataloader', 'dataset', 'pipeline'), [dict(type='NoTransform')])),
        ('syntax error', 'model = dict(\n'),
        ('nothing', ''),
        ('not UTF-8', b'x = "\xff"\n'),
        ('missing base', "_base_ = ['nothing.py']\n"),
        ('circular base', "_base_ = ['config.py']\n"),
    ])  # fmt: skip
    path = place.folder / 'config.py'
    content = as_python(broken) if isinstance(broken, dict) else broken
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    checkpoint, picture = place.shared.checkpoints[host], ROOT / 'docs/images/scene.jpg'
    out = place.folder / 'out'
    tool, arguments, output = rng.choice([
        ('test.py', (path, checkpoint, '--work-dir', out, '--out', place.folder / 'm.json'), place.folder / 'm.json'),
        ('predict.py', (path, checkpoint, picture, '--out', out), out / 'predictions.json'),
        ('reparam.py', (path, checkpoint, place.folder / 'fused.pth', '--sizes', '64'), place.folder / 'fused.pth'),
        ('export.py', (path, checkpoint, place.folder / 'm.ts', '--backbone'), place.folder / 'm.ts'),
        ('visualize_erf.py', (path, '--out', place.folder / 'e.png', '--num-images', '1'), place.folder / 'e.png'),
        ('draw_kernels.py', (path, checkpoint, '--out', place.folder / 'k.png'), place.folder / 'k.png'),
        ('benchmark_model.py', (path, '--seconds', '0.1', '--image-size', '64', '--mode', 'inference'), out / 'none'),
        ('table.py', (path,), place.folder / 't.json'),
    ])  # fmt: skip

    def run() -> None:
        with surroundings(place):
            command(tool, *map(str, arguments))

    return Attempt(f'{tool} on {host}: {what}', run, outputs=(output,))
