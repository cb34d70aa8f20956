"""Configs as people break them, through the tools: each runs, or is refused with a sentence.

A config is a program of its user's, so code in it is no attack. What is attacked is patience: a mistake of one letter
must not end in a traceback of a library, or after an hour.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hostile import config_file_kinds as files
from hostile import config_values as values
from hostile.campaign import SENTENCE, WORKED, Attempt, Campaign, Place
from hostile.config_files import at, changed, dotted, entries, literal, misspelt, renamed, without
from hostile.config_runs import FAMILIES, HOSTS, any_config, prepare, train


def change(
    sections: tuple[str, ...], make: Callable[[random.Random, Any], Any], wanted: Callable[[Any], bool]
) -> Callable[[random.Random, Place], Attempt]:
    """A kind of input that changes one value below some keys of a config."""

    def case(rng: random.Random, place: Place) -> Attempt:
        (host, family), config, demo = any_config(rng, place)
        places = [(path, value) for path, value in entries(config) if path[0] in sections and wanted(value)]
        path, old = rng.choice(places)
        value = make(rng, old)
        what = f'{family} on {host}{demo}: {dotted(path)} = {literal(value)} instead of {literal(old)[:60]}'
        return train(place, changed(config, path, value), what, *demo)

    return case


SECTIONS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'val_cfg',
    'val_evaluator',
    'default_hooks',
    'custom_hooks',
    'data_preprocessor',
    'visualizer',
    'env_cfg',
    'log_processor',
    'randomness',
)
BACKBONE = (('model', 'backbone'),)


def setting(
    sections: tuple[tuple[str, ...], ...], table: dict[str, tuple]
) -> Callable[[random.Random, Place], Attempt]:
    """A kind of input that sets an entry in one of several places of a config to one of the values of a table."""

    def case(rng: random.Random, place: Place) -> Attempt:
        (host, family), _, _ = any_config(rng, place)
        config = place.shared.demo[host, family]
        section, name = rng.choice(sections), rng.choice(list(table))
        parent = at(config, section)
        value = rng.choice(table[name])
        value = value(parent[name]) if callable(value) else value
        what = f'{family} on {host}: {dotted((*section, name))} = {literal(value)[:300]}'
        known = {**parent, name: value}
        return train(place, changed(config, section, known) if section else known, what)

    return case


def sparsity_hook(rng: random.Random, place: Place) -> Attempt:
    (host, family), _, _ = any_config(rng, place)
    hook: dict[str, Any] = dict(type='mmlk.DynamicSparsityHook', sparsity=0.4, init='uniform', interval=1)
    name = rng.choice(list(values.SPARSITY_HOOK))
    hook[name] = rng.choice(values.SPARSITY_HOOK[name])
    what = f'{family} on {host}: custom_hooks with {name} = {literal(hook[name])}'
    return train(place, {**place.shared.demo[host, family], 'custom_hooks': [hook]}, what)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def delete_key(rng: random.Random, place: Place) -> Attempt:
    (host, family), config, demo = any_config(rng, place)
    paths = [path for path, _ in entries(config) if path[0] in SECTIONS and isinstance(path[-1], str)]
    path = rng.choice(paths)
    return train(place, without(config, path), f'{family} on {host}: without {dotted(path)}', *demo)


def delete_section(rng: random.Random, place: Place) -> Attempt:
    (host, family), config, demo = any_config(rng, place)
    key = rng.choice(
        [key for key in config if key in (*SECTIONS, 'default_scope', 'test_dataloader', 'test_evaluator')]
    )
    return train(place, without(config, (key,)), f'{family} on {host}{demo}: without {key}', *demo)


def misspelt_argument(rng: random.Random, place: Place) -> Attempt:
    (host, family), config, _ = any_config(rng, place)
    config = place.shared.demo[host, family]
    paths = [path for path, _ in entries(config['model']['backbone'], ('model', 'backbone')) if len(path) == 3]
    path = rng.choice([path for path in paths if path[-1] not in ('type', 'init_cfg')])
    wrong = misspelt(path[-1], rng)
    what = f'{family} on {host}: {dotted(path)} written {wrong}'
    return train(place, renamed(config, path, wrong), what, names=(wrong, path[-1]), expects=SENTENCE)


def misspelt_key(rng: random.Random, place: Place) -> Attempt:
    (host, family), config, demo = any_config(rng, place)
    paths = [path for path, _ in entries(config) if path[0] in SECTIONS and isinstance(path[-1], str)]
    path = rng.choice(paths)
    wrong = misspelt(path[-1], rng)
    return train(place, renamed(config, path, wrong), f'{family} on {host}: {dotted(path)} written {wrong}', *demo)


def misspelt_type(rng: random.Random, place: Place) -> Attempt:
    (host, family), _, _ = any_config(rng, place)
    config = place.shared.demo[host, family]
    places = [(p, v) for p, v in entries(config) if p[0] in SECTIONS and p[-1] == 'type' and isinstance(v, str)]
    path, old = rng.choice(places)
    scope, dot, name = old.rpartition('.')
    wrong = f'{scope}{dot}{misspelt(name, rng)}'
    return train(place, changed(config, path, wrong), f'{family} on {host}: {dotted(path)} = {wrong}')


def unknown_scope(rng: random.Random, place: Place) -> Attempt:
    (host, family), _, _ = any_config(rng, place)
    config = place.shared.demo[host, family]
    if rng.random() < 0.4:
        scope = rng.choice(['mmnowhere', 'MMSEG', None, 3, '', 'mmrotate', *HOSTS])
        return train(
            place, changed(config, ('default_scope',), scope), f'{family} on {host}: default_scope = {scope!r}'
        )
    path = rng.choice([p for p, v in entries(config) if p[0] in SECTIONS and p[-1] == 'type' and isinstance(v, str)])
    wrong = rng.choice(['mmnowhere', 'mmyolo', 'nothing', '']) + '.' + at(config, path).rpartition('.')[2]
    return train(place, changed(config, path, wrong), f'{family} on {host}: {dotted(path)} = {wrong}')


def wrong_channels(rng: random.Random, place: Place) -> Attempt:
    (host, family), _, _ = any_config(rng, place)
    config = place.shared.demo[host, family]
    places = [
        (path, value)
        for path, value in entries(config['model'], ('model',))
        if path[-1] in ('in_channels', 'channels', 'width_factor', 'base_channels', 'out_channels', 'in_index')
    ]
    path, old = rng.choice(places)
    one = rng.choice([-8, 0, 1, 7, 63, 12.5, 'eight', 10**7])
    value = rng.choice([one, [one], [*old[:-1], one], [*old, 8], old[:-1], old[::-1]]) if isinstance(old, list) else one
    what = f'{family} on {host}: {dotted(path)} = {literal(value)} instead of {literal(old)}'
    return train(place, changed(config, path, value), what)


def shipped(rng: random.Random, place: Place) -> Attempt:
    """Nothing is wrong: all of this is worth nothing where right configs are refused."""
    key = rng.choice(HOSTS), rng.choice(FAMILIES)
    if rng.random() < 0.5:
        return train(place, place.shared.written[key], f'{key[1]} on {key[0]} --demo', '--demo', expects=WORKED)
    return train(place, place.shared.demo[key], f'{key[1]} on {key[0]}', expects=WORKED)


def odd_number(rng: random.Random, old: Any) -> Any:
    return rng.choice(values.ODD_NUMBERS)


def other_shape(rng: random.Random, old: Any) -> Any:
    """A list where one value belongs, and the reverse."""
    if isinstance(old, (list, tuple)):
        return rng.choice([old[0] if old else None, list(old) * 2, old[:-1], {'0': old}, [list(old)]])
    return rng.choice([[old], (old, old), {'value': old}, [[old]]])


CAMPAIGN = Campaign(
    'configs',
    {
        'right config': shipped,
        'key deleted': delete_key,
        'section deleted': delete_section,
        'key misspelt': misspelt_key,
        'argument of the backbone misspelt': misspelt_argument,
        'type misspelt': misspelt_type,
        'unknown scope': unknown_scope,
        'value of a wrong type': change(SECTIONS, lambda rng, old: rng.choice(values.STRANGE), lambda value: True),
        'odd number': change(SECTIONS, odd_number, is_number),
        'list for a value and the reverse': change(SECTIONS, other_shape, lambda v: not isinstance(v, dict)),
        'wrong channels': wrong_channels,
        'kernel size': setting(BACKBONE, values.KERNEL_SIZE),
        'drop path rate': setting(BACKBONE, values.DROP_PATH_RATE),
        'out_indices': setting(BACKBONE, values.OUT_INDICES),
        'depths': setting(BACKBONE, values.DEPTHS),
        'other arguments of the backbone': setting(BACKBONE, values.BACKBONE),
        'sparsity hook': sparsity_hook,
        'custom hooks': setting(((),), values.HOOKS),
        'schedule': setting(((),), values.SCHEDULE),
        'loops and the rest of the runner': setting(((),), values.RUNNER),
        'dataloader': setting((('train_dataloader',), ('val_dataloader',)), values.DATALOADER),
        'dataset': setting((('train_dataloader', 'dataset'), ('val_dataloader', 'dataset')), values.DATASET),
        'optimizer': setting((('optim_wrapper',),), values.OPTIMIZER),
        '_base_': files.base_files,
        'content of the file': files.contents,
        'kind of the file': files.file_kinds,
        '--cfg-options': files.options,
        'work_dir': files.work_dirs,
        'other tools': files.other_tools,
    },
    cases=348,
    limit=120.0,
    prepare=prepare,
)
