"""What may stand in a checkpoint instead of what belongs there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile.campaign import SENTENCE, WORKED

Checkpoint = dict[str, Any]


def _weights(checkpoint: Checkpoint) -> list[tuple[str, torch.Tensor]]:
    return list(checkpoint['state_dict'].items())


#: What the file holds, from the right content.
TOP_LEVEL: dict[str, Callable[[Checkpoint], Any]] = {
    'a list': lambda checkpoint: list(checkpoint['state_dict'].values()),
    'a tuple': lambda checkpoint: tuple(checkpoint),
    'a text': lambda checkpoint: 'weights',
    'a number': lambda checkpoint: 5,
    'nothing': lambda checkpoint: None,
    'a tensor': lambda checkpoint: torch.ones(3),
    'an array': lambda checkpoint: np.ones(3),
    'an empty dict': lambda checkpoint: {},
    'keys that are numbers': lambda checkpoint: {1: torch.ones(2), 2: torch.ones(2)},
    'weights that are text': lambda checkpoint: {'state_dict': {'a': 'b'}},
    'weights that are nothing': lambda checkpoint: {'state_dict': dict.fromkeys(checkpoint['state_dict'])},
    'weights that are numbers': lambda checkpoint: {'state_dict': {'a': 1, 'b': 2.5}},
    'weights in lists': lambda checkpoint: {'state_dict': {key: [value] for key, value in _weights(checkpoint)}},
    'nested weights': lambda checkpoint: {'state_dict': {'state_dict': checkpoint['state_dict']}},
    'a list of weights': lambda checkpoint: {'state_dict': list(checkpoint['state_dict'].items())},
    'no weights': lambda checkpoint: {'meta': checkpoint['meta'], 'message_hub': checkpoint['message_hub']},
    'weights of another network': lambda checkpoint: {'state_dict': torch.nn.Linear(3, 3).state_dict()},
    'the optimizer alone': lambda checkpoint: checkpoint['optimizer'],
}  # fmt: skip


def _set(value: Callable[[torch.Tensor], Any]) -> Callable[[dict, str], None]:
    def change(weights: dict, key: str) -> None:
        weights[key] = value(weights[key])

    return change


def _rename(weights: dict, key: str) -> None:
    weights[f'{key}x'] = weights.pop(key)


#: One tensor among the weights: what has to come of it, and what is done to it.
WEIGHTS: dict[str, tuple[str | None, Callable[[dict, str], Any]]] = {
    'as a text': (SENTENCE, _set(lambda tensor: 'weight')),
    'as a number': (SENTENCE, _set(lambda tensor: 1.0)),
    'as nothing': (SENTENCE, _set(lambda tensor: None)),
    'as a list': (SENTENCE, _set(lambda tensor: tensor.tolist())),
    'as an array': (SENTENCE, _set(lambda tensor: tensor.numpy())),
    'with another dimension': (SENTENCE, _set(lambda tensor: tensor[None])),
    'flat': (SENTENCE, _set(torch.Tensor.flatten)),
    'of half the size': (SENTENCE, _set(lambda tensor: tensor[: len(tensor) // 2])),
    'empty': (SENTENCE, _set(lambda tensor: tensor[:0])),
    'complex': (SENTENCE, _set(lambda tensor: tensor.to(torch.complex64))),
    'of whole numbers': (SENTENCE, _set(lambda tensor: tensor.to(torch.int64))),
    'of truth values': (SENTENCE, _set(lambda tensor: tensor > 0)),
    'sparse': (SENTENCE, _set(torch.Tensor.to_sparse)),
    'quantised': (SENTENCE, _set(lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8))),
    'without memory': (SENTENCE, _set(lambda tensor: tensor.to('meta'))),
    'NaN': (SENTENCE, _set(lambda tensor: tensor * float('nan'))),
    'infinite': (SENTENCE, _set(lambda tensor: tensor + float('inf'))),
    'left out': (SENTENCE, lambda weights, key: weights.pop(key)),
    'renamed': (SENTENCE, _rename),
    'under one more name': (SENTENCE, lambda weights, key: weights.update({f'{key}.copy': weights[key]})),
    'in float16': (WORKED, _set(torch.Tensor.half)),
    'in float64': (WORKED, _set(torch.Tensor.double)),
    'expanded': (WORKED, _set(lambda tensor: tensor[:1, :1, :1, :1].expand(tensor.shape))),
    'a parameter': (WORKED, _set(lambda tensor: torch.nn.Parameter(tensor))),
}


def _meta(**values: Any) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: checkpoint['meta'].update(values)


def _without(entry: str, key: str | None = None) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: (checkpoint if key is None else checkpoint[entry]).pop(key or entry)


def _entry(entry: str, value: Any) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: checkpoint.update({entry: value})


#: What resuming reads of ``meta``.
META: dict[str, tuple[str | None, Callable[[Checkpoint], Any]]] = {
    'none': (SENTENCE, _without('meta')),
    'a list': (SENTENCE, _entry('meta', [1, 2])),
    'a text': (SENTENCE, _entry('meta', 'iter')),
    'iter as a text': (SENTENCE, _meta(iter='2')),
    'iter below zero': (SENTENCE, _meta(iter=-5)),
    'iter as a fraction': (SENTENCE, _meta(iter=1.5)),
    'iter as NaN': (SENTENCE, _meta(iter=float('nan'))),
    'iter as a truth value': (SENTENCE, _meta(iter=True)),
    'iter as a tensor': (SENTENCE, _meta(iter=torch.tensor(2))),
    'iter beyond the end': (None, _meta(iter=10**6)),
    'iter enormous': (None, _meta(iter=10**30)),
    'iter missing': (SENTENCE, _without('meta', 'iter')),
    'epoch as a text': (SENTENCE, _meta(epoch='0')),
    'epoch below zero': (SENTENCE, _meta(epoch=-1)),
    'seed as a text': (None, _meta(seed='abc')),
    'seed enormous': (None, _meta(seed=2**80)),
    'seed below zero': (None, _meta(seed=-1)),
    'seed as a list': (None, _meta(seed=[1, 2])),
    'dataset_meta as a text': (None, _meta(dataset_meta='classes')),
    'config as a number': (None, _meta(config=5)),
    'config that is no Python': (None, _meta(config='a = = 1')),
    'other keys': (WORKED, _meta(note='mine')),
}


def _groups(change: Callable[[list[dict]], Any]) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: change(checkpoint['optimizer']['param_groups'])


def _states(value: Any) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        state = checkpoint['optimizer']['state']
        state[next(iter(state))] = value

    return change


def _moments(value: Callable[[torch.Tensor], Any]) -> Callable[[Checkpoint], None]:
    def change(checkpoint: Checkpoint) -> None:
        for state in checkpoint['optimizer']['state'].values():
            state['exp_avg'] = value(state['exp_avg'])

    return change


#: State of the optimizer.
OPTIMIZERS: dict[str, tuple[str | None, Callable[[Checkpoint], Any]]] = {
    'none': (SENTENCE, _without('optimizer')),
    'a list': (SENTENCE, _entry('optimizer', [])),
    'empty': (SENTENCE, _entry('optimizer', {})),
    'of another network': (
        SENTENCE, _entry('optimizer', torch.optim.AdamW(torch.nn.Linear(2, 2).parameters()).state_dict()),
    ),
    'one group less': (SENTENCE, _groups(lambda groups: groups.pop())),
    'a parameter more': (SENTENCE, _groups(lambda groups: groups[0]['params'].append(10**6))),
    'groups that are texts': (SENTENCE, lambda checkpoint: checkpoint['optimizer'].update(param_groups=['a', 'b'])),
    'no groups': (SENTENCE, lambda checkpoint: checkpoint['optimizer'].pop('param_groups')),
    'no state': (SENTENCE, lambda checkpoint: checkpoint['optimizer'].pop('state')),
    'state that is a list': (SENTENCE, lambda checkpoint: checkpoint['optimizer'].update(state=[1])),
    'state of a parameter that is a text': (None, _states('adam')),
    'state of a parameter that is empty': (None, _states({})),
    'moments of another shape': (None, _moments(lambda moment: moment.flatten()[:1].repeat(3))),
    'moments that are texts': (None, _moments(lambda moment: 'm')),
    'rate that is a text': (None, _groups(lambda groups: groups[0].update(lr='high'))),
}  # fmt: skip

#: Everything else that resuming reads, or that is passed over.
REST: dict[str, tuple[str | None, Callable[[Checkpoint], Any]]] = {
    'no message_hub': (SENTENCE, _without('message_hub')),
    'message_hub as a list': (SENTENCE, _entry('message_hub', [1])),
    'message_hub empty': (None, _entry('message_hub', {})),
    'message_hub of texts': (None, _entry('message_hub', dict(log_scalars='a', runtime_info='b', resumed_keys='c'))),
    'log scalars that are numbers': (None, lambda checkpoint: checkpoint['message_hub'].update(log_scalars=dict(a=5))),
    'resumed keys missing': (None, lambda checkpoint: checkpoint['message_hub'].pop('resumed_keys')),
    'runtime info that is a list': (None, lambda checkpoint: checkpoint['message_hub'].update(runtime_info=[1])),
    'schedules as a text': (SENTENCE, _entry('param_schedulers', 'cosine')),
    'one schedule less': (None, lambda checkpoint: checkpoint['param_schedulers'].pop()),
    'too many schedules': (None, lambda checkpoint: checkpoint['param_schedulers'].extend([{}] * 9)),
    'schedules that are numbers': (None, _entry('param_schedulers', [1, 2, 3])),
    'schedules that are empty': (None, _entry('param_schedulers', [{}, {}, {}])),
    'a schedule with a text': (None, lambda checkpoint: checkpoint['param_schedulers'][0].update(last_step='x')),
    'random states as a text': (None, _entry('random_state', 'seed')),
    'more entries': (WORKED, _entry('notes', ['mine', 1])),
}  # fmt: skip

#: Texts for ``meta`` and the message hub that would make the file ``canary`` if they were run.
CONFIG_TEXTS: dict[str, Callable[[Path, Path], str]] = {
    'a call': lambda folder, canary: f'open({str(canary)!r}, "w")',
    'an import': lambda folder, canary: f'import os\nos.system("touch {canary}")',
    'a call in a value': lambda folder, canary: f'gpu_ids = [0, open({str(canary)!r}, "w")]',
    'a base': lambda folder, canary: f"_base_ = '{folder}/evil.py'",
    'bases': lambda folder, canary: f"_base_ = ['{folder}/evil.py']",
    'an imported module': lambda folder, canary: "custom_imports = dict(imports=['evil'])",
    'an imported module by its name': lambda folder, canary: "custom_imports = dict(imports='evil')",
    'a class': lambda folder, canary: f'class A:\n    open({str(canary)!r}, "w")',
    'a default': lambda folder, canary: f'def f(a=open({str(canary)!r}, "w")): pass',
    'a decorator': lambda folder, canary: f'@(lambda f: open({str(canary)!r}, "w"))\ndef f(): pass',
    'a comprehension': lambda folder, canary: f'a = [open(name, "w") for name in [{str(canary)!r}]]',
    'an f-string': lambda folder, canary: f'a = f"{{open({str(canary)!r}, chr(119))}}"',
    'a subscript': lambda folder, canary: f'a = [open][0]({str(canary)!r}, "w")',
    'an attribute': lambda folder, canary: f"a = dict.fromkeys([__import__('pathlib').Path({str(canary)!r}).touch()])",
    'another dict': lambda folder, canary: f'dict = open\na = dict({str(canary)!r}, mode="w")',
    'an assignment inside': lambda folder, canary: f'a = (b := open({str(canary)!r}, "w"))',
    'a walrus of dict': lambda folder, canary: f'a = [(dict := open), dict({str(canary)!r}, mode="w")]',
    'unpacking': lambda folder, canary: f'a = dict(**{{"b": open({str(canary)!r}, "w")}})',
    'read_base': lambda folder, canary: (
        'from mmengine.config import read_base\nwith read_base():\n    from .evil import *'
    ),
    'text that is no Python': lambda folder, canary: 'a = = 1',
    'a template': lambda folder, canary: f'a = {{{{ fileDirname }}}}\nopen({str(canary)!r}, "w")',
    'a template in a string': lambda folder, canary: "a = '{{ $HOME:x }}'\nb = '{{_base_.a}}'",
}  # fmt: skip
