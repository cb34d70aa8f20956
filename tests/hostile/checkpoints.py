"""Damaged, wrong and hostile checkpoints, through every way in."""

from __future__ import annotations

import copy
import gzip
import io
import os
import random
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from hostile.campaign import ROOT, SENTENCE, Attempt, Campaign, Place, command
from hostile.checkpoint_values import CONFIG_TEXTS, META, OPTIMIZERS, REST, TOP_LEVEL, WEIGHTS
from hostile.op_calls import require
from hostile.payloads import (
    ARCHIVES,
    BOMBS,
    POSITIONS,
    PROGRAMS,
    as_pickle,
    write_archive,
    write_legacy,
)  # fmt: skip
from tool_runner import TINY, run_tool

from mmlk.checkpoints.fit import require_fit, unwrap_state_dict
from mmlk.compat.checkpoint_loader import load_checkpoint_file

CONFIG = 'configs/ade20k/upernet_pelk_t.py'
NAME = 'weights.pth'
ITERATIONS = 2


def prepare(folder: Path) -> Path:
    """Train the smallest network for two iterations; the checkpoint is what all cases damage."""
    os.environ.update(MMLK_DEMO_ROOT=str(folder / 'demo'), MMLK_DEMO_ITERS=str(ITERATIONS), LOCAL_RANK='0')
    os.environ['MMLK_HOSTILE_WORK'] = str(folder / 'run')
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        result = run_tool(
            'train.py', CONFIG, '--demo', '--no-validate', '--work-dir', folder / 'run', '--cfg-options', *OPTIONS
        )
    finally:
        os.chdir(before)
    if result.code:
        raise RuntimeError(f'the checkpoint to damage could not be made: {result.err}')
    path = folder / 'run' / f'iter_{ITERATIONS}.pth'
    # Loaded once: imports and caches are those of the parent then.
    torch.save(load_checkpoint_file(path), folder / 'legacy.pth', _use_new_zipfile_serialization=False)
    path.rename(folder / 'archive.pth')
    return folder


OPTIONS = [*TINY, 'default_hooks.checkpoint.interval=1', 'default_hooks.logger.interval=1']


def original(place: Place) -> dict[str, Any]:
    return load_checkpoint_file(place.shared / 'archive.pth')


def save(rng: random.Random, place: Place, value: Any) -> Path:
    """Write a value in one of the two formats."""
    path = place.folder / NAME
    torch.save(value, path, _use_new_zipfile_serialization=rng.random() < 0.6)
    return path


def load_and_fit(path: Path, place: Place) -> dict:
    """What the tools do first: load, find the weights, compare them with the model, load them strictly."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded = load_checkpoint_file(path, 'cpu')
        weights = unwrap_state_dict(loaded, path)
        model = copy.deepcopy(_network(place))
        require_fit(model, weights, str(path))
        model.load_state_dict(weights)
    return loaded


def _network(place: Place) -> torch.nn.Module:
    """A module with the parameters of the trained network."""
    weights = original(place)['state_dict']
    model = torch.nn.Module()
    for key, value in weights.items():
        *parents, leaf = key.split('.')
        module = model
        for name in parents:
            if name not in module._modules:
                module.add_module(name, torch.nn.Module())
            module = module._modules[name]
        if value.is_floating_point():
            module.register_parameter(leaf, torch.nn.Parameter(value.clone()))
        else:
            module.register_buffer(leaf, value.clone())
    return model


def same(actual: Any, expected: Any) -> bool:
    """Whether two checkpoints hold the same, bit by bit."""
    if isinstance(expected, torch.Tensor):
        return (
            isinstance(actual, torch.Tensor)
            and actual.dtype == expected.dtype
            and actual.shape == expected.shape
            and torch.equal(*(t.contiguous().view(-1).view(torch.uint8) for t in (actual, expected)))
        )
    if isinstance(expected, dict):
        return isinstance(actual, dict) and list(actual) == list(expected) and all(
            same(actual[key], expected[key]) for key in expected
        )  # fmt: skip
    if isinstance(expected, (list, tuple)):
        return type(actual) is type(expected) and len(actual) == len(expected) and all(map(same, actual, expected))
    # numpy arrays, history buffers, numbers, texts.
    return repr(getattr(actual, '__dict__', actual)) == repr(getattr(expected, '__dict__', expected))


# --- Damage of the file


def flip(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 3, 20))):
        # Half of them among the headers and the pickle, which are a small part of the file.
        end = len(damaged) if rng.random() < 0.5 else min(len(damaged), 60_000)
        damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(rng: random.Random, content: bytes) -> bytes:
    """A block of a disk that was lost: zeros or other bytes."""
    size = rng.choice((1, 16, 512, 4096))
    start = rng.randrange(len(content))
    block = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
    return content[:start] + block + content[start + size :]


def cut_out(rng: random.Random, content: bytes) -> bytes:
    start, size = rng.randrange(len(content)), rng.choice((1, 8, 512))
    return content[:start] + content[start + size :]


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.choice((1, 3, 20, len(content) - 1, len(content) - 30, rng.randrange(len(content))))]


def append(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice((b'\0', rng.randbytes(100), content[:5000], bytes(4096)))


def damaged(rng: random.Random, place: Place, form: str, damage: Callable) -> Path:
    path = place.folder / NAME
    path.write_bytes(damage(rng, (place.shared / f'{form}.pth').read_bytes()))
    return path


def of_archive(damage: Callable, expects: str | None = None) -> Callable:
    """An archive has checksums: what loads is what was saved."""

    def kind(rng: random.Random, place: Place) -> Attempt:
        path = damaged(rng, place, 'archive', damage)

        def run() -> None:
            loaded = load_and_fit(path, place)
            require(same(loaded, original(place)), 'other values were loaded without a word')

        return Attempt(f'{damage.__name__} of an archive', run, (NAME,), expects)

    return kind


def of_legacy(damage: Callable, expects: str | None = None) -> Callable:
    """The old format has none: a number that changed cannot be told from the right one."""

    def kind(rng: random.Random, place: Place) -> Attempt:
        path = damaged(rng, place, 'legacy', damage)
        return Attempt(f'{damage.__name__} of a legacy file', lambda: load_and_fit(path, place), (NAME,), expects)

    return kind


def another_file(rng: random.Random, place: Place) -> Attempt:
    """What people give by mistake."""
    path = place.folder / NAME
    archive = (place.shared / 'archive.pth').read_bytes()
    picture = next((place.shared / 'demo').rglob('*.jpg')).read_bytes()
    contents = {
        'empty': b'',
        'error page': b'<!DOCTYPE html><html><body>404</body></html>',
        'pointer of git lfs': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n',
        'picture': picture,
        'gzip': gzip.compress(archive[:100_000]),
        'safetensors': b'\x10\0\0\0\0\0\0\0{"a":{}}        ',
        'text': b'weights',
        'config': (ROOT / CONFIG).read_bytes(),
        'numpy': b'\x93NUMPY\x01\0',
        'zip without records': b'PK\x05\x06' + bytes(18),
        'plain pickle': as_pickle({'a': 1}),
        'zeros': bytes(10_000),
        'random bytes': rng.randbytes(5000),
        'random bytes of a pickle': b'\x80\x02' + rng.randbytes(200),
    }
    name = rng.choice(list(contents))
    path.write_bytes(contents[name])
    return Attempt(name, lambda: load_and_fit(path, place), (NAME,), SENTENCE)


def wrong_top_level(rng: random.Random, place: Place) -> Attempt:
    name = rng.choice(list(TOP_LEVEL))
    path = save(rng, place, TOP_LEVEL[name](original(place)))
    return Attempt(name, lambda: load_and_fit(path, place), (NAME,), SENTENCE)


def wrong_weights(rng: random.Random, place: Place) -> Attempt:
    checkpoint = original(place)
    name = rng.choice(list(WEIGHTS))
    expects, change = WEIGHTS[name]
    key = rng.choice([key for key, value in checkpoint['state_dict'].items() if value.dim() == 4])
    change(checkpoint['state_dict'], key)
    path = save(rng, place, checkpoint)
    return Attempt(f'{name}: {key}', lambda: load_and_fit(path, place), (NAME,), expects)


# --- Hostile content


def program(rng: random.Random, place: Place) -> Attempt:
    """A pickle that runs code, at every place of a checkpoint, in both formats and all protocols."""
    name, position = rng.choice(list(PROGRAMS)), rng.choice(list(POSITIONS))
    checkpoint = {key: value for key, value in original(place).items() if key in ('meta', 'optimizer')}
    checkpoint['state_dict'] = {'a.weight': [1.0]}
    value = POSITIONS[position](checkpoint, PROGRAMS[name](place.canary))
    protocol = rng.choice((2, 3, 4, 5))
    path = place.folder / NAME
    rng.choice((write_archive, write_legacy))(path, as_pickle(value, protocol))
    return Attempt(f'{name} {position}, protocol {protocol}', lambda: load_and_fit(path, place), (NAME,), SENTENCE)


def archive_program(rng: random.Random, place: Place) -> Attempt:
    name = rng.choice(list(ARCHIVES))
    path = place.folder / NAME
    ARCHIVES[name](path, place.canary)
    return Attempt(name, lambda: load_and_fit(path, place), (NAME,), SENTENCE)


def bomb(rng: random.Random, place: Place) -> Attempt:
    """Archives that say they hold far more than they do."""
    name = rng.choice(list(BOMBS))
    path = place.folder / NAME
    BOMBS[name](path, rng)
    return Attempt(name, lambda: load_and_fit(path, place), (NAME,), SENTENCE)


def config_text(rng: random.Random, place: Place) -> Attempt:
    """Config texts in a checkpoint, which mmengine runs when a run is resumed or an inferencer has no config."""
    name = rng.choice(list(CONFIG_TEXTS))
    (place.folder / 'evil.py').write_text(f'open({str(place.canary)!r}, "w")\n')
    text = CONFIG_TEXTS[name](place.folder, place.canary)
    checkpoint = original(place)
    where = rng.choice(('meta.config', 'meta.cfg', 'message_hub'))
    if where == 'message_hub':
        checkpoint['message_hub']['runtime_info']['cfg'] = text
    else:
        checkpoint['meta'][where.removeprefix('meta.')] = text
        checkpoint['message_hub']['runtime_info'].pop('cfg', None)
    path = save(rng, place, checkpoint)

    def run() -> None:
        if rng.random() < 0.5:
            resume(path, place)
            return
        from mmseg.apis import MMSegInferencer

        sys.path.insert(0, str(place.folder))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            try:
                MMSegInferencer(model=None, weights=str(path), device='cpu')
            except (ValueError, KeyError, AttributeError, AssertionError, ImportError):
                # What it says where it has no config is its own; that nothing ran is ours.
                return

    return Attempt(f'{name} as {where}', run, (NAME, 'expected', 'weights'))


def random_pickle(rng: random.Random, place: Place) -> Attempt:
    """The pickle of a good checkpoint with instructions exchanged, doubled and left out."""
    small = dict(
        state_dict={'a': [1.0, 2]}, meta=dict(iter=3, epoch=0, seed=None, text='größer'), rest=(1, [2], {3: b'4'})
    )
    content = bytearray(as_pickle(small, rng.choice((2, 4))))
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(2, len(content))
        change = rng.random()
        if change < 0.5:
            content[at] = rng.choice(
                b'(.012FIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x80\x81\x82\x85\x86\x87\x88\x8a\x8c\x93\x94\x95'
            )
        elif change < 0.75:
            content[at:at] = content[at : at + rng.randint(1, 8)]
        else:
            del content[at : at + rng.randint(1, 4)]
    path = place.folder / NAME
    rng.choice((write_archive, write_legacy))(path, bytes(content))
    # No tensor survives: whatever is read is no checkpoint of weights.
    return Attempt('mutated pickle', lambda: load_and_fit(path, place), (NAME,), SENTENCE)


# --- Through the tools


def resume(path: Path, place: Place) -> None:
    os.chdir(ROOT)
    os.environ['MMLK_DEMO_ITERS'] = str(ITERATIONS + 1)
    options = ['--cfg-options', *OPTIONS]
    command(
        'train.py', CONFIG, '--demo', '--no-validate', '--work-dir', place.folder / 'wd', '--resume', path, *options
    )


def resumed(changes: dict[str, tuple[str | None, Callable]]) -> Callable:
    """``tools/train.py --resume`` with something wrong besides the weights."""

    def kind(rng: random.Random, place: Place) -> Attempt:
        checkpoint = original(place)
        name = rng.choice(list(changes))
        expects, change = changes[name]
        change(checkpoint)
        path = save(rng, place, checkpoint)
        return Attempt(name, lambda: resume(path, place), (NAME,), expects)

    return kind


def through(tool: str, *arguments: str, output: str | None = None, options: bool = True) -> Callable:
    """A tool given any of the files above; ``{}`` stands for the checkpoint, ``{out}`` for what is written.

    ``{config}`` is that of the run the checkpoint is from, ``{picture}`` one of its pictures.
    """

    def kind(rng: random.Random, place: Place) -> Attempt:
        path, what = _any_file(rng, place)
        out = place.folder / (output or 'none')
        config = place.shared / 'run' / Path(CONFIG).name
        picture = next((place.shared / 'demo').rglob('*.jpg'))
        names = dict(out=out, folder=place.folder, config=config, picture=picture)
        given = [argument.format(path, **names) for argument in arguments]

        def run() -> None:
            os.chdir(ROOT)
            command(tool, *given, *(['--cfg-options', *OPTIONS, f'work_dir={place.folder}/wd'] if options else []))
            require(output is None or out.exists(), f'{out.name} was not written')

        outputs = (out, out.with_suffix('.py')) if output else ()
        return Attempt(f'{tool}: {what}', run, (NAME,), None, outputs)

    return kind


def _any_file(rng: random.Random, place: Place) -> tuple[Path, str]:
    """One of the files of the other kinds, mostly such as reach the model."""
    choice = rng.choice(('untouched', 'flip', 'truncate', 'weights', 'weights', 'program', 'top level', 'rest'))
    path = place.folder / NAME
    if choice in ('flip', 'truncate'):
        return damaged(
            rng, place, rng.choice(('archive', 'legacy')), {'flip': flip, 'truncate': truncate}[choice]
        ), choice
    if choice == 'program':
        return path, program(rng, place).what
    if choice == 'top level':
        return path, wrong_top_level(rng, place).what
    if choice == 'weights':
        return path, wrong_weights(rng, place).what
    checkpoint = original(place)
    if choice == 'rest':
        name = rng.choice(list(REST))
        REST[name][1](checkpoint)
        choice = name
    return save(rng, place, checkpoint), choice


DEMO = ('--demo',)
CAMPAIGN = Campaign(
    'checkpoints',
    {
        'bit flips, archive': of_archive(flip),
        'bit flips, legacy format': of_legacy(flip),
        'lost blocks, archive': of_archive(overwrite),
        'lost blocks, legacy format': of_legacy(overwrite),
        'bytes left out, archive': of_archive(cut_out, SENTENCE),
        'bytes left out, legacy format': of_legacy(cut_out),
        'truncated, archive': of_archive(truncate, SENTENCE),
        'truncated, legacy format': of_legacy(truncate, SENTENCE),
        'bytes appended, archive': of_archive(append),
        'another kind of file': another_file,
        'no checkpoint inside': wrong_top_level,
        'wrong weights': wrong_weights,
        'pickles that run code': program,
        'archives that run code': archive_program,
        'bombs': bomb,
        'mutated pickles': random_pickle,
        'code in config texts': config_text,
        'train.py --resume, meta': resumed(META),
        'train.py --resume, optimizer': resumed(OPTIMIZERS),
        'train.py --resume, the rest': resumed(REST),
        'test.py': through('test.py', CONFIG, '{}', *DEMO, '--work-dir', '{folder}/wd'),
        'reparam.py': through('reparam.py', CONFIG, '{}', '{out}', *DEMO, '--sizes', '64', output='fused.pth'),
        'predict.py': through(
            'predict.py', '{config}', '{}', '{picture}', '--out', '{folder}/results', '--device', 'cpu', options=False
        ),
        'export.py': through(
            'export.py',
            CONFIG,
            '{}',
            '{out}',
            *DEMO,
            '--backbone',
            '--size',
            '64',
            '--seconds',
            '0.1',
            output='model.ts',
        ),
        'convert_checkpoint.py': through(
            'convert_checkpoint.py', '{}', '{out}', '--family', 'replknet', output='converted.pth', options=False
        ),
    },
    cases=225,
    limit=120.0,
    prepare=prepare,
)
