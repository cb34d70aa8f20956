"""Files that would run code, or that would alter this process, are refused by name; nothing of them runs."""

import copyreg
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmlk.compat.checkpoint_loader import UnsafeCheckpointError, load_checkpoint_file
from mmlk.errors import UsageError

pytestmark = pytest.mark.filterwarnings('ignore:Detected pickle protocol')

MARKER = 'executed'  # file in the working directory that every payload tries to create
PROTOCOL_2 = b'\x80\x02'
NUMPY_CORE = 'numpy._core' if np.lib.NumpyVersion(np.__version__) >= '2.0.0' else 'numpy.core'


class Call:
    """Pickles as a call: ``function(*args)`` runs when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple:
        return self.function, self.args


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f'c{module}\n{attribute}\n'.encode()


def call(function: bytes, *args: bytes) -> bytes:
    return function + b'(' + b''.join(args) + b'tR'


def pairs(**items: bytes) -> bytes:
    return b'}(' + b''.join(text(key) + value for key, value in items.items()) + b'u'


def program(*parts: bytes) -> bytes:
    return PROTOCOL_2 + b''.join(parts) + b'.'


def shell() -> Call:
    return Call(os.system, f'touch {MARKER}')


SYSTEM = name('posix', 'system')
GETATTR = name('__builtin__', 'getattr')
BUFFER = name('mmengine.logging.history_buffer', 'HistoryBuffer')
DTYPE = pickle.dumps(np.dtype('f8'), 2)[2:-1]
LATIN_B = call(name('_codecs', 'encode'), text('b'), text('latin1'))
EMPTY_ARRAY = call(name(f'{NUMPY_CORE}.multiarray', '_reconstruct'), name('numpy', 'ndarray'), b'K\x00\x85', LATIN_B)


def eight_bytes() -> bytes:
    return call(name('_codecs', 'encode'), text('12345678'), text('latin1'))


def array_with(shape: bytes, dtype: bytes = DTYPE, data: bytes | None = None) -> bytes:
    return EMPTY_ARRAY + b'(K\x01' + shape + dtype + b'\x89' + (eight_bytes() if data is None else data) + b'tb'


# What is refused, by case: the pickle and what the message has to name.
HOSTILE: dict[str, tuple[bytes, str]] = {
    'system': (pickle.dumps(shell(), 2), 'posix.system'),
    'system in protocol 4': (pickle.dumps(shell(), 4), 'posix.system'),
    'system in protocol 5': (pickle.dumps(shell(), 5), 'posix.system'),
    'system among weights': (
        pickle.dumps({'meta': {'epoch': 1, 'hooks': [shell()]}, 'state_dict': {'w': [1.0]}, 'message_hub': {}}, 2),
        'posix.system',
    ),
    'system as a value': (pickle.dumps({'f': os.system}, 2), 'posix.system'),
    'eval': (pickle.dumps(Call(eval, f'open({MARKER!r}, "w")'), 2), 'builtins.eval'),
    'exec': (pickle.dumps(Call(exec, f'open({MARKER!r}, "w")'), 2), 'builtins.exec'),
    'import': (program(call(name('__builtin__', '__import__'), text('os'))), 'builtins.__import__'),
    'partial': (
        program(call(call(name('functools', 'partial'), SYSTEM, text(f'touch {MARKER}')))),
        'functools.partial',
    ),
    'inst opcode': (b"(S'touch executed'\nios\nsystem\n.", 'os.system'),
    'obj opcode': (b'(' + SYSTEM + b"S'touch executed'\no.", 'posix.system'),
    'obj opcode of an admitted class': (program(b'(', name('collections', 'OrderedDict'), b'o'), 'instruction'),
    'newobj_ex': (program(name('argparse', 'Namespace'), b')', pairs(a=b'N'), b'\x92'), 'instruction'),
    'load_from_bytes': (
        program(call(name('torch.storage', '_load_from_bytes'), LATIN_B)),
        'torch.storage._load_from_bytes',
    ),
    'rebuild_from_type': (
        program(call(name('torch._tensor', '_rebuild_from_type_v2'), SYSTEM, SYSTEM, text('true') + b'\x85', b'}')),
        'torch._tensor._rebuild_from_type_v2',
    ),
    'getattr of globals': (
        program(call(GETATTR, call(GETATTR, BUFFER, text('mean')), text('__globals__'))),
        "builtins.getattr, for '__globals__' of mmengine.logging.history_buffer.HistoryBuffer.mean",
    ),
    'getattr of init': (program(call(GETATTR, BUFFER, text('__init__'))), "builtins.getattr, for '__init__' of"),
    'getattr of register': (
        program(call(GETATTR, BUFFER, text('register_statistics'))),
        "builtins.getattr, for 'register_statistics' of",
    ),
    'getattr of a string': (program(call(GETATTR, text('x'), text('format'))), "builtins.getattr, for 'format' of 'x'"),
    'dotted name': (
        b'\x80\x04' + text('mmengine.logging.history_buffer') + text('HistoryBuffer.mean.__globals__') + b'\x93.',
        'mmengine.logging.history_buffer.HistoryBuffer.mean.__globals__',
    ),
    'module as name': (program(name('torch', 'hub')), 'torch.hub'),
    'build on a class': (
        program(BUFFER, pairs(mean=text('replaced')), b'b'),
        'a new state for mmengine.logging.history_buffer.HistoryBuffer',
    ),
    'build on a class, slots': (
        program(BUFFER, b'N', pairs(mean=text('replaced')), b'\x86b'),
        'a new state for mmengine.logging.history_buffer.HistoryBuffer',
    ),
    'build on OrderedDict': (
        program(name('collections', 'OrderedDict'), pairs(update=text('replaced')), b'b'),
        'a new state for collections.OrderedDict',
    ),
    'build on a function': (
        program(call(GETATTR, BUFFER, text('mean')), pairs(__code__=b'N'), b'b'),
        'a new state for mmengine.logging.history_buffer.HistoryBuffer.mean',
    ),
    'build on torch': (
        program(name('torch.storage', 'UntypedStorage'), pairs(fill_=b'N'), b'b'),
        'a new state for torch.storage.UntypedStorage',
    ),
    'build on a storage kind': (program(name('torch', 'FloatStorage'), pairs(a=b'N'), b'b'), 'a new state for'),
    'build on a list': (program(b']', pairs(a=b'N'), b'b'), 'a new state for []'),
    'build twice': (
        program(name('argparse', 'Namespace'), b')\x81', pairs(a=b'N'), b'b', pairs(b=b'N'), b'b'),
        'a new state for Namespace(a=None)',
    ),
    'slots of a Namespace': (
        program(name('argparse', 'Namespace'), b')\x81', pairs(a=b'N'), pairs(b=b'N'), b'\x86b'),
        'a Namespace with a malformed state',
    ),
    'method of a Namespace': (
        program(name('argparse', 'Namespace'), b')\x81', pairs(_get_kwargs=b'N'), b'b'),
        "a Namespace with an attribute named '_get_kwargs'",
    ),
    'class of a Namespace': (
        program(name('argparse', 'Namespace'), b')\x81', pairs(__class__=BUFFER), b'b'),
        "a Namespace with an attribute named '__class__'",
    ),
    'attribute that is no name': (
        program(name('argparse', 'Namespace'), b')\x81', b'}K\x01Nsb'),
        'a Namespace with an attribute named 1',
    ),
    'method of an OrderedDict': (
        program(name('collections', 'OrderedDict'), b')R', pairs(copy=b'N'), b'b'),
        "a OrderedDict with an attribute named 'copy'",
    ),
    'statistics of a HistoryBuffer': (
        program(BUFFER, b')\x81', pairs(statistics_methods=pairs(mean=SYSTEM)), b'b'),
        'posix.system',
    ),
    'method of a HistoryBuffer': (
        program(BUFFER, b')\x81', pairs(mean=b'N'), b'b'),
        'a HistoryBuffer with unknown fields',
    ),
    'history that is a list': (
        program(BUFFER, b')\x81', pairs(_log_history=b']', _count_history=b']', max_length=b'K\x05'), b'b'),
        'a HistoryBuffer whose history is not a list of numbers',
    ),
    'item of a HistoryBuffer': (program(BUFFER, b')\x81', text('a'), b'N', b's'), 'a new item for'),
    'item of an array': (program(EMPTY_ARRAY, b'K\x00K\x00s'), 'a new item for'),
    'items of an array': (program(EMPTY_ARRAY, b'(K\x00K\x00u'), 'a new item for'),
    'append to a dict': (program(b'}Na'), 'a new item for {}'),
    'appends to a class': (program(BUFFER, b'(Ne'), 'a new item for mmengine.logging.history_buffer.HistoryBuffer'),
    'add to a list': (b'\x80\x04](N\x90.', 'a new item for []'),
    'call of a dtype': (program(call(name('torch', 'float32'), text('a'))), 'a call of torch.float32'),
    'call of a storage': (
        program(call(name('torch.storage', 'UntypedStorage'), b'K\x08')),
        'a call of torch.storage.UntypedStorage',
    ),
    'call of HistoryBuffer': (program(call(BUFFER, b']')), 'a call of mmengine.logging.history_buffer.HistoryBuffer'),
    'call of a method': (
        program(call(call(GETATTR, BUFFER, text('mean')), b'N')),
        'a call of mmengine.logging.history_buffer.HistoryBuffer.mean',
    ),
    'call with a list': (program(name('collections', 'OrderedDict'), b']R'), 'a call of collections.OrderedDict'),
    'new array': (program(name('numpy', 'ndarray'), b'K\x01\x85\x81'), 'a new numpy.ndarray'),
    'subclass of an array': (
        program(call(name(f'{NUMPY_CORE}.multiarray', '_reconstruct'), BUFFER, b'K\x00\x85', LATIN_B)),
        'a subclass of numpy.ndarray',
    ),
    'array of objects': (pickle.dumps(np.array([shell()], dtype=object), 2), "a numpy array of dtype 'O8'"),
    'array of objects in an old name': (
        pickle.dumps(np.array([shell()], dtype=object), 2).replace(b'numpy._core', b'numpy.core'),
        "a numpy array of dtype 'O8'",
    ),
    'array of records': (pickle.dumps(np.zeros(1, dtype=[('a', 'f4')]), 2), "a numpy array of dtype 'V4'"),
    'dtype with fields': (
        program(
            call(name('numpy', 'dtype'), text('f8'), b'\x89', b'\x88'), b'(K\x03', text('<'), b'}NNK\x00K\x00K\x00tb'
        ),
        'a numpy array of a dtype that is not a plain number',
    ),
    'array without a dtype': (program(array_with(b'K\x01\x85', dtype=b'N')), 'a numpy array that does not hold plain'),
    'array larger than its bytes': (program(array_with(b'K\x09\x85')), 'a numpy array whose bytes do not fit'),
    'array of overflowing size': (
        program(array_with(b'\x8a\x08' + b'\x00' * 7 + b'\x40' + b'K\x04\x86')),
        'a numpy array whose bytes do not fit',
    ),
    'array of negative size': (program(array_with(b'J\xff\xff\xff\xff\x85')), 'a numpy array whose bytes do not fit'),
    'scalar of too few bytes': (
        program(call(name(f'{NUMPY_CORE}.multiarray', 'scalar'), DTYPE, LATIN_B)),
        'a numpy scalar that is not a plain number',
    ),
    'codec': (program(call(name('_codecs', 'encode'), text('x'), text('rot13'))), "the codec 'rot13'"),
    'named bytes': (program(call(name('__builtin__', 'bytearray'), b'K\x05')), 'builtins.bytearray'),
    'extension code': (program(b'\x82\xf0'), 'a global given by an extension code'),
    'extension code of two bytes': (program(b'\x83\xf0\x00'), 'a global given by an extension code'),
    'extension code of four bytes': (program(b'\x84\xf0\x00\x00\x00'), 'a global given by an extension code'),
    'out-of-band buffer': (b'\x80\x05\x97.', 'instruction'),
    'persistent id of a module': (
        program(b'(', text('module'), BUFFER, text('/etc/passwd'), text('x'), b'tQ'),
        'a malformed storage',
    ),
    'persistent id in text': (b'Pstorage\n.', 'instruction'),
    'tensor of no storage': (
        program(call(name('torch._utils', '_rebuild_tensor_v2'), BUFFER, b'K\x00', b')', b')', b'\x89', b'}')),
        'a tensor with a malformed description',
    ),
    'device by a list': (program(call(name('torch', 'device'), b']')), 'a malformed torch.device'),
}


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every test ends with nothing executed, whatever else it asserts."""
    monkeypatch.chdir(tmp_path)
    HistoryBuffer()  # the first one fills the dict that all of them share
    before = dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)
    yield
    assert not Path(MARKER).exists()
    assert (dict(vars(HistoryBuffer)), dict(HistoryBuffer._statistics_methods)) == before


def assert_refused(path: Path, what: str, load: Callable[[Path], Any] = load_checkpoint_file) -> None:
    with pytest.raises(UnsafeCheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and what in message, message
    assert '\n' not in message
    assert isinstance(caught.value, pickle.UnpicklingError) and isinstance(caught.value, UsageError)


def test_payload_runs_in_plain_pickle():
    """The cases below prove something only if what they hold would otherwise run."""
    pickle.loads(HOSTILE['system'][0])
    assert Path(MARKER).exists()
    Path(MARKER).unlink()


@pytest.mark.parametrize('case', HOSTILE)
@pytest.mark.parametrize('form', ['archive', 'legacy'])
def test_hostile_file_is_refused_by_name(case: str, form: str, tmp_path: Path, write_archive, write_legacy):
    content, what = HOSTILE[case]
    # Named and dropped: an admitted class that torch's own reader does not know, so that ours decides about the rest.
    start = 2 * content.startswith(b'\x80')
    content = content[:start] + name('argparse', 'Namespace') + b'0' + content[start:]
    path = (write_archive if form == 'archive' else write_legacy)(tmp_path / 'hostile.pth', content)
    assert_refused(path, what)


@pytest.mark.parametrize(
    'case', ['system', 'eval', 'build on a class', 'extension code', 'statistics of a HistoryBuffer']
)
def test_hostile_file_is_refused_through_mmengine(case: str, tmp_path: Path, write_archive):
    from mmengine.runner import load_checkpoint

    content, what = HOSTILE[case]
    path = write_archive(tmp_path / 'hostile.pth', content)
    assert_refused(path, what, lambda path: load_checkpoint(torch.nn.Linear(1, 1), str(path)))


def test_hostile_head_of_a_legacy_file(tmp_path: Path):
    """The first thing in the legacy format is a pickle as well."""
    path = tmp_path / 'hostile.pth'
    path.write_bytes(HOSTILE['system'][0])
    assert_refused(path, 'posix.system')


def test_registered_extension_code_is_refused(tmp_path: Path, write_archive):
    copyreg.add_extension('posix', 'system', 240)
    try:
        content = pickle.dumps(shell(), 2)
        assert b'posix' not in content
        assert_refused(write_archive(tmp_path / 'hostile.pth', content), 'a global given by an extension code')
    finally:
        copyreg.remove_extension('posix', 'system', 240)


def test_torchscript_archive_is_refused(tmp_path: Path):
    path = tmp_path / 'script.pth'
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    assert_refused(path, 'a TorchScript archive')


def test_tar_format_is_refused(tmp_path: Path):
    path = tmp_path / 'old.pth'
    with tarfile.open(path, 'w') as archive:
        for member in ('storages', 'tensors', 'pickle'):
            info = tarfile.TarInfo(member)
            info.size = len(HOSTILE['system'][0])
            archive.addfile(info, io.BytesIO(HOSTILE['system'][0]))
    assert_refused(path, 'the tar format of torch before 0.1.10')


def test_statistics_of_a_file_are_ignored(tmp_path: Path, write_archive):
    """A HistoryBuffer whose file carries other statistics methods loads with the class's own; see `nothing_runs`."""
    history = pickle.dumps(np.array([1.0, 3.0]), 2)[2:-1]
    state = dict(_log_history=history, _count_history=history, max_length=b'K\x05')
    content = program(BUFFER, b')\x81', pairs(**state, statistics_methods=pairs(mean=b'K\x05', extra=b'K\x05')), b'b')
    buffer = load_checkpoint_file(write_archive(tmp_path / 'a.pth', content))
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.statistics('max') == 3.0 and buffer.max_length == 5
    assert vars(buffer).keys() == {'_log_history', '_count_history', 'max_length'}


def test_hooks_of_a_tensor_are_dropped(tmp_path: Path):
    """Backward hooks would be called in training; the history makes torch's own reader pass the file on to ours."""
    path = tmp_path / 'a.pth'
    tensor = torch.ones(2, requires_grad=True)
    torch.save({'tensor': tensor, 'parameter': torch.nn.Parameter(torch.ones(2)), 'history': HistoryBuffer()}, path)
    loaded = load_checkpoint_file(path)
    assert loaded['tensor'].requires_grad and not loaded['tensor']._backward_hooks
    assert type(loaded['parameter']) is torch.nn.Parameter and not loaded['parameter']._backward_hooks


def test_forced_weights_only_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / 'a.pth'
    torch.save({'history': HistoryBuffer()}, path)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    assert_refused(path, 'TORCH_FORCE_WEIGHTS_ONLY_LOAD is set')


def test_unrestricted_loading_cannot_be_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_archive):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.warns(UserWarning, match='TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        assert_refused(write_archive(tmp_path / 'hostile.pth', HOSTILE['system'][0]), 'posix.system')
