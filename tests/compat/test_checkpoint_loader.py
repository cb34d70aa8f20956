"""What checkpoints are made of loads as it was saved; files that cannot be loaded are refused with one sentence."""

import argparse
import collections
import pickle
import random
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmlk.compat.checkpoint_loader import CheckpointError, CheckpointNotFoundError, load_checkpoint_file
from mmlk.errors import UsageError

pytestmark = pytest.mark.filterwarnings('ignore:Detected pickle protocol')

# In a file, this makes torch's own reader hand over to the restricted one.
HISTORY = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 2])


def save_and_load(tmp_path: Path, value: Any, *, map_location: Any = None, **options: Any) -> Any:
    path = tmp_path / 'checkpoint.pth'
    torch.save(value, path, **options)
    return load_checkpoint_file(path, map_location)


def assert_same(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype and actual.requires_grad == expected.requires_grad
        assert actual.stride() == expected.stride()
        assert torch.equal(*(tensor.detach().reshape(-1).view(torch.uint8) for tensor in (actual, expected)))
    elif isinstance(expected, np.ndarray | np.generic):
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        assert actual.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for left, right in zip(actual, expected, strict=True):
            assert_same(left, right)
    else:
        assert actual == expected


DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
]

BENIGN: dict[str, Any] = {
    'tensors': {str(dtype): torch.arange(6).to(dtype).reshape(2, 3) for dtype in DTYPES},
    'strided tensors': [torch.arange(12.0).reshape(3, 4).t(), torch.arange(12.0)[3:7], torch.tensor(1.5)],
    'empty tensors': [torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)],
    'leaf': torch.ones(2, requires_grad=True),
    'numbers': {'int': 1, 'long': 1 << 100, 'negative': -5, 'float': 0.1, 'bool': True, 'none': None, 1: 'key'},
    'text': ['', 'plain', 'größer', '\N{SNOWMAN}' * 300],
    'bytes': [b'', b'abc', bytes(range(256))],
    'containers': [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {1, 2}, frozenset({3}), set(), ((), ([],))],
    'ordered': collections.OrderedDict([('b', 1), ('a', 2)]),
    'milestones': collections.Counter([8, 11, 11]),
    'sizes and dtypes': [
        torch.Size([1, 2]),
        torch.float32,
        torch.bfloat16,
        torch.device('cpu'),
        torch.device('cuda', 1),
    ],
    'arrays': [
        *(np.arange(6, dtype=code).reshape(2, 3) for code in ('f2', 'f4', 'f8', 'i1', 'i4', 'i8', 'u1', 'u8', 'c16')),
        *(np.array([True, False]), np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        *(np.array(2.5), np.zeros((0, 3)), np.arange(10)[::2]),
    ],
    'scalars': [np.float64(0.1), np.float32(0.5), np.int64(-3), np.bool_(True), np.uint8(255)],
    'config': ConfigDict(model=dict(type='PeLK', arch='t'), list=[dict(a=1)], n=None),
    'random states': [random.Random(0).getstate(), np.random.RandomState(0).get_state(), torch.get_rng_state()],
}


@pytest.mark.parametrize('case', BENIGN)
@pytest.mark.parametrize(
    'options',
    [dict(), dict(_use_new_zipfile_serialization=False), dict(pickle_protocol=4)],
    ids=['archive', 'legacy', 'protocol 4'],
)
def test_what_is_saved_is_loaded(case: str, options: dict, tmp_path: Path):
    value = BENIGN[case]
    assert_same(save_and_load(tmp_path, value, **options), value)
    both = save_and_load(tmp_path, {'value': value, 'history': HISTORY}, **options)
    assert_same(both['value'], value)
    assert both['history'].data[0].tolist() == [1.0, 2.0, 6.0] and both['history'].data[1].tolist() == [1, 1, 2]
    assert both['history'].statistics('mean') == 9 / 4 and both['history'].statistics('mean', 1) == 3.0
    both['history'].update(1.0)


@pytest.mark.parametrize('also', [None, HISTORY], ids=['torch reader', 'restricted reader'])
def test_new_dtypes(also: Any, tmp_path: Path):
    """Dtypes without a storage class of their own, which the legacy format cannot hold."""
    value = [torch.arange(6).to(dtype) for dtype in (torch.float8_e4m3fn, torch.uint16)]
    assert_same(save_and_load(tmp_path, [value, also])[0], value)


def test_foreign_byte_order(tmp_path: Path):
    """numpy turns such an array into the machine's own order when it is unpickled."""
    loaded = save_and_load(tmp_path, [np.arange(3, dtype='>f4'), np.arange(3, dtype='<f4'), np.float32(2)])
    assert [array.tolist() for array in loaded] == [[0, 1, 2], [0, 1, 2], 2]
    assert all(array.dtype == np.float32 for array in loaded)
    assert np.dtype('f4').isnative  # the one that the process shares is not the one the file's byte order went into


def test_state_dict_with_metadata(tmp_path: Path):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    loaded = save_and_load(tmp_path, {'state_dict': model.state_dict(), 'history': HISTORY})['state_dict']
    assert_same(loaded, model.state_dict())
    assert loaded._metadata == model.state_dict()._metadata
    other = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    other.load_state_dict(loaded)
    assert_same(other.state_dict(), model.state_dict())


def test_authors_checkpoint(tmp_path: Path):
    """The layout of timm-style training scripts: settings in an argparse.Namespace."""
    args = argparse.Namespace(lr=4e-3, drop_path=0.1, model='SLaK_tiny', kernel_size=['51', '49'], resume='', crop=None)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = {'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'epoch': 299, 'args': args}
    loaded = save_and_load(tmp_path, saved)
    assert type(loaded['args']) is argparse.Namespace and loaded['args'] == args
    assert_same(loaded['model'], saved['model'])
    assert_same(loaded['optimizer'], saved['optimizer'])


@pytest.mark.parametrize('legacy', [False, True])
def test_shared_storages_stay_shared(legacy: bool, tmp_path: Path):
    base = torch.arange(10.0)
    value = {'base': base, 'part': base[2:5], 'history': HISTORY}
    loaded = save_and_load(tmp_path, value, _use_new_zipfile_serialization=not legacy)
    assert loaded['part'].tolist() == [2, 3, 4]
    loaded['base'][2] = 7
    assert loaded['part'][0] == 7
    same = torch.ones(2)
    loaded = save_and_load(tmp_path, [same, same, HISTORY])
    assert loaded[0] is loaded[1]


@pytest.mark.parametrize('also', [None, HISTORY], ids=['torch reader', 'restricted reader'])
@pytest.mark.parametrize('legacy', [False, True])
def test_map_location(also: Any, legacy: bool, tmp_path: Path):
    value, options = [torch.ones(2), also], dict(_use_new_zipfile_serialization=not legacy)
    assert save_and_load(tmp_path, value, **options)[0].device.type == 'cpu'
    for location in ('meta', torch.device('meta'), {'cpu': 'meta'}):
        assert save_and_load(tmp_path, value, map_location=location, **options)[0].device.type == 'meta'
    asked = []

    def keep(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        asked.append(location)
        return storage

    assert save_and_load(tmp_path, value, map_location=keep, **options)[0].tolist() == [1, 1]
    assert 'cpu' in asked


def test_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save({'a': 1}, tmp_path / 'checkpoint.pth')
    assert load_checkpoint_file('~/checkpoint.pth') == {'a': 1}


# --- Files that cannot be loaded


def assert_refused(path: Path, *parts: str, map_location: Any = None) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint_file(path, map_location)
    message = str(caught.value)
    assert str(path) in message and '\n' not in message
    assert all(part in message for part in parts), message
    assert isinstance(caught.value, UsageError)
    return caught.value


def test_missing(tmp_path: Path):
    error = assert_refused(tmp_path / 'absent.pth', 'does not exist')
    assert isinstance(error, CheckpointNotFoundError) and isinstance(error, FileNotFoundError)


def test_directory_and_empty_file(tmp_path: Path):
    assert_refused(tmp_path, 'is a directory')
    (tmp_path / 'empty.pth').touch()
    assert_refused(tmp_path / 'empty.pth', 'is empty')


@pytest.mark.parametrize(
    'content',
    [
        b'<!DOCTYPE html><html>404</html>',
        b'version https://git-lfs.github.com/spec/v1\n',
        bytes(4096),
        b'\x93NUMPY\x01',
    ],
    ids=['error page', 'pointer file', 'zeros', 'numpy file'],
)
def test_other_formats(content: bytes, tmp_path: Path):
    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(content)
    assert_refused(path, 'not a checkpoint written by torch.save')


def test_plain_pickle_and_plain_archive(tmp_path: Path):
    import zipfile

    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(pickle.dumps({'a': 1}))
    assert_refused(path, 'not a checkpoint written by torch.save')
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('model/weights.bin', b'abc')
    assert_refused(path, 'not a checkpoint written by torch.save')


@pytest.mark.parametrize('also', [None, HISTORY], ids=['torch reader', 'restricted reader'])
@pytest.mark.parametrize('legacy', [False, True])
def test_truncated_anywhere(also: Any, legacy: bool, tmp_path: Path):
    path = tmp_path / 'checkpoint.pth'
    torch.save({'w': torch.arange(100.0), 'also': also}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for length in range(1, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:length])
        assert_refused(path)
    path.write_bytes(content[: len(content) // 2])
    assert_refused(path, 'truncated, damaged')


@pytest.mark.parametrize('legacy', [False, True])
def test_damaged_anywhere(legacy: bool, tmp_path: Path):
    """A flipped byte gives a refusal or a value, never another exception."""
    path, rng, refused = tmp_path / 'checkpoint.pth', random.Random(0), 0
    value = {'w': torch.arange(4.0), 'history': HISTORY, 'n': np.arange(3), 'args': argparse.Namespace(a=1)}
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            load_checkpoint_file(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 30


def test_claims_of_giant_sizes(tmp_path: Path, write_legacy, write_archive):
    path = tmp_path / 'checkpoint.pth'

    def storage(count: bytes) -> bytes:
        parts = (b'X\x07\x00\x00\x00storage', b'ctorch\nFloatStorage\n', b'X\x01\x00\x00\x000', b'X\x03\x00\x00\x00cpu')
        return b'\x80\x02(' + b''.join(parts) + count + b'%stQ.'

    for count in (b'\x8a\x08' + b'\xff' * 7 + b'\x0f', b'\x8a\x0b' + b'\xff' * 10 + b'\x0f'):
        assert_refused(write_legacy(path, storage(count) % b'N'), 'truncated, damaged')
        assert_refused(write_archive(path, storage(count) % b''), 'truncated, damaged')
    for opcode, size in ((b'\x8e', struct.pack('<Q', 1 << 62)), (b'B', struct.pack('<I', 0xFFFFFFFF))):
        assert_refused(write_archive(path, b'\x80\x04' + opcode + size + b'short'), 'truncated, damaged')


def test_storage_smaller_than_its_tensor(tmp_path: Path):
    path = tmp_path / 'checkpoint.pth'
    torch.save([torch.arange(4.0), HISTORY], path)
    reader = torch._C.PyTorchFileReader(str(path))
    content = reader.get_record('data.pkl').replace(b'K\x04t', b'K\x7ft', 1)
    assert content != reader.get_record('data.pkl')
    writer = torch._C.PyTorchFileWriter(str(path))
    for record, data in (('data.pkl', content), ('byteorder', b'little'), ('data/0', bytes(16))):
        writer.write_record(record, data, len(data))
    writer.write_end_of_file()
    assert_refused(path, 'truncated, damaged')


def test_nesting(tmp_path: Path, write_archive):
    """A deep value is no harm; one that contains itself where a copy has to be made is refused."""
    path = tmp_path / 'checkpoint.pth'
    assert isinstance(load_checkpoint_file(write_archive(path, b'\x80\x02)' + b'\x85' * 100_000 + b'.')), tuple)
    itself = b'\x80\x02cmmengine.config.config\nConfigDict\n}q\x00K\x01h\x00s\x85R.'
    assert_refused(write_archive(path, itself), 'RecursionError')


def test_package_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.save([HISTORY], tmp_path / 'checkpoint.pth')
    monkeypatch.setitem(sys.modules, 'mmengine.logging', None)
    assert_refused(tmp_path / 'checkpoint.pth', 'a package that is not installed here', 'mmengine')


def test_tensors_of_an_absent_device(tmp_path: Path, write_legacy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    path = tmp_path / 'checkpoint.pth'
    torch.save([torch.ones(2), HISTORY], path, _use_new_zipfile_serialization=False)
    content = path.read_bytes().replace(b'X\x03\x00\x00\x00cpu', b'X\x06\x00\x00\x00cuda:0')
    path.write_bytes(content)
    assert_refused(path, 'of a device that is not available here: pass map_location="cpu"')
    assert load_checkpoint_file(path, 'cpu')[0].tolist() == [1, 1]
