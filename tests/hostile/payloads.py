"""Pickles and archives that run code, take all memory or never end, for loaders that do not look."""

from __future__ import annotations

import builtins
import io
import operator
import os
import pickle
import random
import runpy
import shutil
import struct
import subprocess
import sys
import tarfile
import timeit
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION


class Runs:
    """Pickles as a call: ``function(*args)`` runs when it is unpickled, its state is given to what comes out."""

    def __init__(self, function: Callable[..., Any], *args: Any, state: Any = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple:
        return self.parts

    def __call__(self) -> None:
        """Never: pickle only wants to see that what it writes as a function can be called."""


def _with_config(canary: Path) -> Runs:
    from mmengine.config import Config

    return Runs(Config.fromstring, f'open({str(canary)!r}, "w")', '.py')


def _with_files(canary: Path) -> Runs:
    from mmlk.files import write_whole

    return Runs(write_whole, canary, 'ran')


def _nested(canary: Path) -> Runs:
    buffer = io.BytesIO()
    torch.save({'w': Runs(os.system, f'touch {canary}')}, buffer)
    return Runs(torch.storage._load_from_bytes, buffer.getvalue())


#: Name -> what pickles as a program that makes the file it is given.
PROGRAMS: dict[str, Callable[[Path], Any]] = {
    'os.system': lambda canary: Runs(os.system, f'touch {canary}'),
    'subprocess': lambda canary: Runs(subprocess.check_call, ['touch', str(canary)]),
    'eval': lambda canary: Runs(eval, f'open({str(canary)!r}, "w")'),
    'exec': lambda canary: Runs(exec, f'open({str(canary)!r}, "w")'),
    'open': lambda canary: Runs(open, str(canary), 'w'),
    'getattr chain': lambda canary: Runs(Runs(getattr, Runs(__import__, 'os'), 'system'), f'touch {canary}'),
    'getattr of builtins': lambda canary: Runs(Runs(getattr, builtins, 'open'), str(canary), 'w'),
    'methodcaller': lambda canary: Runs(operator.methodcaller('touch'), canary),
    'map in a list': lambda canary: Runs(list, Runs(map, open, [str(canary)], ['w'])),
    'path': lambda canary: Runs(Path.touch, canary),
    'runpy': lambda canary: Runs(runpy._run_code, f'open({str(canary)!r}, "w")', {}),
    'timeit': lambda canary: Runs(timeit.timeit, 'pass', f'open({str(canary)!r}, "w")'),
    'shutil': lambda canary: Runs(shutil.copy, '/etc/hostname', str(canary)),
    'state of a class': lambda canary: Runs(getattr, torch, 'nn', state={'Linear': Runs(os.system, f'touch {canary}')}),
    'torch inside torch': _nested,
    'config': _with_config,
    'file of the package': _with_files,
    'array of objects': lambda canary: np.array([Runs(os.system, f'touch {canary}')], dtype=object),
    'dtype metadata': lambda canary: np.zeros(1, np.dtype([('a', 'O')]))[:0].tolist() or Runs(open, str(canary), 'w'),
}

#: Where in a checkpoint a value goes.
POSITIONS: dict[str, Callable[[dict, Any], Any]] = {
    'instead of it': lambda checkpoint, value: value,
    'among the weights': lambda checkpoint, value: {**checkpoint, 'state_dict': {'a.weight': value}},
    'beside the weights': lambda checkpoint, value: {**checkpoint, 'extra': [value]},
    'in meta': lambda checkpoint, value: {**checkpoint, 'meta': {'iter': 1, 'epoch': 0, 'hooks': {'a': (value,)}}},
    'as iteration': lambda checkpoint, value: {**checkpoint, 'meta': {'iter': value, 'epoch': 0}},
    'in the message hub': lambda checkpoint, value: {**checkpoint, 'message_hub': {'runtime_info': {'lr': value}}},
    'in the optimizer': lambda checkpoint, value: {**checkpoint, 'optimizer': {'state': {0: value}}},
}


class Pickler(pickle._Pickler):
    """Keeps tensors apart as ``torch.save`` would not; large values become plain lists, modules their names."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return list, (value.flatten()[:4].tolist(),)
        if type(value) is type(os):
            return __import__, (value.__name__,)
        return NotImplemented

    def save(self, value: Any, save_persistent_id: bool = True) -> Any:
        reduced = self.reducer_override(value)
        if reduced is NotImplemented:
            return super().save(value, save_persistent_id)
        return self.save_reduce(*reduced, obj=value)


def as_pickle(value: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump(value)
    return buffer.getvalue()


def write_archive(path: Path, content: bytes) -> None:
    """A checkpoint of today's format whose pickle is given and which holds no tensor."""
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.write_record('data.pkl', content, len(content))
    writer.write_record('byteorder', sys.byteorder, len(sys.byteorder))
    writer.write_end_of_file()


def write_legacy(path: Path, content: bytes) -> None:
    """The same in the format of torch before 1.6."""
    head = (MAGIC_NUMBER, PROTOCOL_VERSION, dict(protocol_version=PROTOCOL_VERSION, little_endian=True))
    path.write_bytes(b''.join(pickle.dumps(part, 2) for part in head) + content + pickle.dumps([], 2))


# --- Archives that are programs


def _script(path: Path, canary: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def _package(path: Path, canary: Path) -> None:
    with torch.package.PackageExporter(str(path)) as exporter:
        exporter.save_source_string('evil', f'open({str(canary)!r}, "w")')
        exporter.save_pickle('evil', 'data.pkl', {'a': 1})


def _tar(path: Path, canary: Path) -> None:
    content = as_pickle(Runs(os.system, f'touch {canary}'))
    with tarfile.open(path, 'w') as archive:
        for member in ('storages', 'tensors', 'pickle'):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _numpy(path: Path, canary: Path) -> None:
    with path.open('wb') as file:
        np.savez(file, weight=np.array([Runs(os.system, f'touch {canary}')], dtype=object))


def _exported(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', as_pickle({'a': 1}))
        archive.writestr('a/version', '3')
        archive.writestr('a/constants.pkl', as_pickle(Runs(os.system, f'touch {canary}')))
        archive.writestr('a/code/__torch__.py', f'open({str(canary)!r}, "w")')


ARCHIVES: dict[str, Callable[[Path, Path], None]] = {
    'TorchScript': _script,
    'torch.package': _package,
    'tar': _tar,
    'npz of objects': _numpy,
    'code in a zip': _exported,
}

# --- Files that want all memory or all time


def _text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def _deflated(path: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/version', '3')
        with archive.open('a/data.pkl', 'w', force_zip64=True) as file:
            for _ in range(256):
                file.write(b'\0' * 2**20)


def _pickled(content: Callable[[random.Random], bytes]) -> Callable[[Path, random.Random], None]:
    return lambda path, rng: rng.choice((write_archive, write_legacy))(path, b'\x80\x02' + content(rng) + b'.')


def _storage(elements: int) -> bytes:
    """A tensor whose storage has so many elements, and is nowhere."""
    pid = b'(' + _text('storage') + b'ctorch\nFloatStorage\n' + _text('0') + _text('cpu')
    pid += b'\x8a\x08' + struct.pack('<q', elements) + b'tQ'
    size = b'\x8a\x08' + struct.pack('<q', elements) + b'\x85'
    return b'ctorch._utils\n_rebuild_tensor_v2\n(' + pid + b'K\x00' + size + b'K\x01\x85\x89}tR'


def _stride_zero(rng: random.Random) -> bytes:
    """One element, expanded to 2**60 by its strides."""
    pid = b'(' + _text('storage') + b'ctorch\nFloatStorage\n' + _text('0') + _text('cpu') + b'K\x01tQ'
    size = b'\x8a\x08' + struct.pack('<q', 2**60) + b'\x85'
    return b'}' + _text('w') + b'ctorch._utils\n_rebuild_tensor_v2\n(' + pid + b'K\x00' + size + b'K\x00\x85\x89}tRs'


BOMBS: dict[str, Callable[[Path, random.Random], None]] = {
    'deflated zeros': _deflated,
    'long string declared': _pickled(lambda rng: b'X' + struct.pack('<I', 2**32 - 1) + b'a'),
    'longer string declared': _pickled(lambda rng: b'\x8d' + struct.pack('<Q', 2**62) + b'a'),
    'long bytes declared': _pickled(lambda rng: b'\x8e' + struct.pack('<Q', rng.choice((2**40, 2**63))) + b'a'),
    'long number declared': _pickled(lambda rng: b'\x8b' + struct.pack('<i', 2**31 - 1) + b'a'),
    'negative number of digits': _pickled(lambda rng: b'\x8b' + struct.pack('<i', -1)),
    'long frame declared': _pickled(lambda rng: b'\x95' + struct.pack('<Q', 2**62) + b'N'),
    'digits': _pickled(lambda rng: b'I' + b'9' * 10**6 + b'\n'),
    'deep lists': _pickled(lambda rng: b']' * 10**5 + b'a' * (10**5 - 1)),
    'deep tuples': _pickled(lambda rng: b'N' + b'\x85' * 10**5),
    'doubling lists': _pickled(
        lambda rng: b']q\x000' + b''.join(b'](h%ch%ceq%c0' % (i, i, i + 1) for i in range(60)) + b'h<'
    ),
    'list in itself': _pickled(lambda rng: b']q\x00h\x00a'),
    'dict in itself': _pickled(lambda rng: b'}q\x00' + _text('state_dict') + b'h\x00s'),
    'marks': _pickled(lambda rng: b'(' * 10**6 + b'N'),
    'memo out of range': _pickled(lambda rng: b'j' + struct.pack('<I', 2**31)),
    'memo far away': _pickled(lambda rng: b'Nr' + struct.pack('<I', 2**32 - 1)),
    'huge storage': _pickled(lambda rng: b'}' + _text('w') + _storage(rng.choice((2**34, 2**40, 2**61, -5))) + b's'),
    'stride of zero': _pickled(_stride_zero),
}  # fmt: skip
