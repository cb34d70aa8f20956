"""Keys and shapes of the authors' state dicts, kept compactly in data/keys, and when two state dicts are the same.

A group holds a template with ``#`` for every number, a shape, and the numbers of each key.
"""

import json
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / 'data' / 'keys'
NAMES = sorted(path.stem for path in FOLDER.glob('*.json'))


def load_keys(name: str) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shape of every state-dict entry of an authors' network, and its stated number of parameters.

    Args:
        name: One of :data:`NAMES`, such as ``'slak_t'``.
    """
    data = json.loads((FOLDER / f'{name}.json').read_text())
    shapes = {}
    for template, shape, numbers in data['groups']:
        for indices in numbers:
            pieces = template.split('#')
            key = pieces[0] + ''.join(f'{index}{piece}' for index, piece in zip(indices, pieces[1:], strict=True))
            shapes[key] = tuple(shape)
    return shapes, data['params']


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts have the same names, values and dtypes."""
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)
