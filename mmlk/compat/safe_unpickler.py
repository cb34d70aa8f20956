"""An unpickler for checkpoints that can only build the few kinds of value a checkpoint is made of.

A pickle is a program: it names functions and classes and has the reader call them. `Unpickler` turns the rule round.
A name is looked up in one table (`_admitted`), never imported; what the table gives is an `_Admitted`, which is not a
class or a function but a record of what may be built with it, so nothing a file gets hold of can be called, altered or
handed on. A state (``BUILD``) is given once, to values built from a record that says how, after it has been checked.
Anything else raises `RefusedError` with the name of what was asked for.

The module has the shape of `pickle` (``Unpickler``, ``load``), which is what ``torch.load(pickle_module=...)`` wants.
"""

import argparse
import collections
import functools
import math
import pickle
import reprlib
from collections.abc import Callable
from typing import IO, Any

import torch
from torch.serialization import StorageType

__all__ = ['RefusedError', 'Unpickler', 'load']


class RefusedError(pickle.UnpicklingError):
    """Raised where a pickle asks for something a checkpoint does not need; the message is that thing's name."""


class _Admitted:
    """What a pickle may do with one global.

    Args:
        name: Dotted name of the global, for messages.
        call: Gives the value of ``name(*args)`` after checking the arguments; ``None`` where the file may not call it.
        new: Gives the value of ``name.__new__(name)``; ``None`` where the file may not ask for that.
        build: Gives a value made by one of these its state after checking it; ``None`` where it takes none.
    """

    __slots__ = ('name', 'call', 'new', 'build')

    def __init__(
        self,
        name: str,
        call: Callable[..., Any] | None = None,
        new: Callable[[], Any] | None = None,
        build: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self.name = name
        self.call = call
        self.new = new
        self.build = build


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise RefusedError(what)


def _describe(value: Any) -> str:
    if type(value) is _Admitted:
        return value.name
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, type) else reprlib.repr(value)


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_sizes(value: Any) -> bool:
    return type(value) in (tuple, torch.Size) and all(_is_size(item) for item in value)


# --- torch


def _check_tensor_layout(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any) -> None:
    _require(
        type(storage) in (torch.storage.TypedStorage, torch.UntypedStorage)
        and _is_size(offset)
        and _is_sizes(size)
        and _is_sizes(stride)
        and type(requires_grad) is bool,
        'a tensor with a malformed description',
    )


def _check_metadata(metadata: Any) -> None:
    _require(
        metadata is None
        or type(metadata) is dict
        and all(type(k) is str and type(v) is bool for k, v in metadata.items()),
        'a tensor with malformed metadata',
    )


# Backward hooks are functions to be called during training: torch writes an empty dict for them, and whatever a file
# gives instead is dropped.


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    _check_tensor_layout(storage, offset, size, stride, False)
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, backward_hooks: Any, metadata: Any = None
) -> torch.Tensor:
    _check_tensor_layout(storage, offset, size, stride, requires_grad)
    _check_metadata(metadata)
    return torch._utils._rebuild_tensor_v2(
        storage, offset, size, stride, requires_grad, collections.OrderedDict(), metadata
    )


def _rebuild_tensor_v3(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    backward_hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> torch.Tensor:
    _check_tensor_layout(storage, offset, size, stride, requires_grad)
    _check_metadata(metadata)
    _require(type(dtype) is torch.dtype, 'a tensor with a malformed dtype')
    return torch._utils._rebuild_tensor_v3(
        storage, offset, size, stride, requires_grad, collections.OrderedDict(), dtype, metadata
    )


def _rebuild_parameter(data: Any, requires_grad: Any, backward_hooks: Any) -> torch.nn.Parameter:
    _require(type(data) is torch.Tensor and type(requires_grad) is bool, 'a malformed parameter')
    return torch.nn.Parameter(data, requires_grad)


def _torch_size(sizes: Any = ()) -> torch.Size:
    _require(type(sizes) in (tuple, list) and all(_is_size(item) for item in sizes), 'a malformed torch.Size')
    return torch.Size(sizes)


def _torch_device(kind: Any, index: Any = None) -> torch.device:
    _require(type(kind) is str and (index is None or _is_size(index)), 'a malformed torch.device')
    return torch.device(kind) if index is None else torch.device(kind, index)


# --- Python


def _ordered_dict(items: Any = ()) -> collections.OrderedDict:
    _require(
        type(items) in (list, tuple) and all(type(item) in (list, tuple) and len(item) == 2 for item in items),
        'a malformed collections.OrderedDict',
    )
    return collections.OrderedDict(items)


def _build_attributes(instance: Any, state: Any) -> None:
    kind = type(instance)
    _require(type(state) is dict, f'a {kind.__name__} with a malformed state')
    for name in state:
        # A name that the class has would stand in for one of its methods.
        plain = type(name) is str and name.isidentifier() and not hasattr(kind, name)
        _require(plain, f'a {kind.__name__} with an attribute named {reprlib.repr(name)}')
    vars(instance).update(state)


def _counter(counts: Any = None) -> collections.Counter:
    _require(counts is None or type(counts) is dict, 'a malformed collections.Counter')
    return collections.Counter(counts)


def _set(items: Any = ()) -> set:
    _require(type(items) in (list, tuple), 'a malformed set')
    return set(items)


def _frozenset(items: Any = ()) -> frozenset:
    _require(type(items) in (list, tuple), 'a malformed frozenset')
    return frozenset(items)


def _empty_bytes() -> bytes:
    return b''


def _encode(text: Any, encoding: Any) -> bytes:
    # This is how pickle protocol 2 writes bytes. Other codecs are other modules' code, and some unpack archives.
    _require(type(text) is str and encoding in ('latin1', 'latin-1'), f'the codec {reprlib.repr(encoding)}')
    return text.encode('latin1')


# --- numpy


def _is_plain_dtype(dtype: Any) -> bool:
    import numpy as np

    return isinstance(dtype, np.dtype) and dtype.kind in 'biufc' and dtype.subdtype is None and dtype.names is None


def _numpy_dtype(code: Any, align: Any = False, copy: Any = False) -> Any:
    import numpy as np

    plain = type(code) is str and code[:1] in tuple('biufc') and code[1:].isdigit() and len(code) < 5
    _require(plain, f'a numpy array of dtype {reprlib.repr(code)}')
    # A copy of its own, because the state that follows in the file (the byte order) is written into the object.
    return np.dtype(code, copy=True)


def _build_dtype(dtype: Any, state: Any) -> None:
    plain = (3, None, None, None, -1, -1, 0)
    _require(
        type(state) is tuple
        and len(state) == 8
        and state[1] in ('<', '>', '=', '|')
        and (state[0], *state[2:]) == plain,
        'a numpy array of a dtype that is not a plain number',
    )
    dtype.__setstate__(state)


def _numpy_array(kind: Any, shape: Any, code: Any) -> Any:
    import numpy as np

    _require(type(kind) is _Admitted and kind.name == 'numpy.ndarray', 'a subclass of numpy.ndarray')
    # Always the same empty array, whatever the file says: the state that follows replaces all of it.
    return np.empty((0,), np.int8)


def _build_array(array: Any, state: Any) -> None:
    _require(type(state) is tuple and len(state) == 5, 'a numpy array with a malformed state')
    version, shape, dtype, is_fortran, data = state
    _require(_is_plain_dtype(dtype), 'a numpy array that does not hold plain numbers')
    _require(
        version == 1
        and type(is_fortran) is bool
        and _is_sizes(shape)
        and type(data) is bytes
        and len(data) == math.prod(shape) * dtype.itemsize,
        'a numpy array whose bytes do not fit its shape',
    )
    array.__setstate__(state)


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    import numpy as np

    _require(
        _is_plain_dtype(dtype) and type(data) is bytes and len(data) == dtype.itemsize,
        'a numpy scalar that is not a plain number',
    )
    return np.frombuffer(data, dtype)[0]


# --- mmengine

_HISTORY_BUFFER = 'mmengine.logging.history_buffer.HistoryBuffer'
_HISTORY_METHODS = ('min', 'max', 'mean', 'current')


def _history_buffer() -> Any:
    from mmengine.logging import HistoryBuffer

    return HistoryBuffer()


def _build_history_buffer(buffer: Any, state: Any) -> None:
    import numpy as np

    known = {'max_length', '_log_history', '_count_history', 'statistics_methods'}
    _require(type(state) is dict and state.keys() <= known, 'a HistoryBuffer with unknown fields')
    # mmengine's own __setstate__ would put the file's statistics methods into a dict that all buffers of the process
    # share; the ones the class itself has are there already.
    for name in ('_log_history', '_count_history'):
        _require(
            type(state.get(name)) is np.ndarray and _is_plain_dtype(state[name].dtype) and state[name].ndim == 1,
            'a HistoryBuffer whose history is not a list of numbers',
        )
    _require(_is_size(state.get('max_length')), 'a HistoryBuffer with a malformed length')
    buffer.__dict__.update({name: value for name, value in state.items() if name != 'statistics_methods'})


def _getattr(owner: Any, name: Any) -> Any:
    # Protocol 2 writes a class's method as getattr(class, name); mmengine's HistoryBuffer needs it for its own four.
    admitted = type(owner) is _Admitted and owner.name == _HISTORY_BUFFER and name in _HISTORY_METHODS
    _require(admitted, f'the global builtins.getattr, for {reprlib.repr(name)} of {_describe(owner)}')
    return _admitted()[f'{_HISTORY_BUFFER}.{name}']


def _config_dict(items: Any = None) -> Any:
    from mmengine.config import ConfigDict

    _require(items is None or type(items) is dict, 'a malformed ConfigDict')
    return ConfigDict(items or {})


# --- The table and the reader


@functools.cache
def _admitted() -> dict[str, Any]:
    """Everything that a checkpoint may name, by dotted name."""
    table: dict[str, Any] = {
        f'torch.{name}': value for name, value in vars(torch).items() if type(value) is torch.dtype
    }
    # The one class that gets out, because torch compares with it: of no use to a file, as only records can be called.
    table['torch.storage.UntypedStorage'] = torch.UntypedStorage
    records = [
        _Admitted('torch._utils._rebuild_tensor', _rebuild_tensor),
        _Admitted('torch._utils._rebuild_tensor_v2', _rebuild_tensor_v2),
        _Admitted('torch._utils._rebuild_tensor_v3', _rebuild_tensor_v3),
        _Admitted('torch._utils._rebuild_parameter', _rebuild_parameter),
        _Admitted('torch.Size', _torch_size),
        _Admitted('torch.device', _torch_device),
        _Admitted('collections.OrderedDict', _ordered_dict, collections.OrderedDict, _build_attributes),
        _Admitted('collections.Counter', _counter),
        _Admitted('builtins.set', _set),
        _Admitted('builtins.frozenset', _frozenset),
        _Admitted('builtins.bytes', _empty_bytes),
        _Admitted('builtins.getattr', _getattr),
        _Admitted('_codecs.encode', _encode),
        _Admitted('argparse.Namespace', None, argparse.Namespace, _build_attributes),
        _Admitted('numpy.ndarray'),
        _Admitted('numpy.dtype', _numpy_dtype, None, _build_dtype),
        _Admitted('numpy.core.multiarray._reconstruct', _numpy_array, None, _build_array),
        _Admitted('numpy._core.multiarray._reconstruct', _numpy_array, None, _build_array),
        _Admitted('numpy.core.multiarray.scalar', _numpy_scalar),
        _Admitted('numpy._core.multiarray.scalar', _numpy_scalar),
        _Admitted(_HISTORY_BUFFER, None, _history_buffer, _build_history_buffer),
        _Admitted('mmengine.config.config.ConfigDict', _config_dict),
        *(_Admitted(f'{_HISTORY_BUFFER}.{name}') for name in _HISTORY_METHODS),
    ]
    table.update((record.name, record) for record in records)
    return table


class Unpickler(pickle._Unpickler):
    """Reader of one pickle; see the head of this file.

    It extends the reader that Python keeps in Python, because the one in C builds on its own account where this one has
    to ask.

    Args:
        file: Binary file at the start of a pickle.
        **kwargs: As for ``pickle.Unpickler``.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], **kwargs: Any) -> None:
        super().__init__(file, **kwargs)
        # Values that may still be given a state, with the function that does it, by id. Holding the value keeps its id.
        self._unbuilt: dict[int, tuple[Any, Callable[[Any, Any], None]]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full_name = f'{"builtins" if module == "__builtin__" else module}.{name}'
        if full_name not in _admitted():
            raise RefusedError(f'the global {full_name}')
        return _admitted()[full_name]

    def _remember(self, record: _Admitted, value: Any) -> Any:
        if record.build is not None:
            self._unbuilt[id(value)] = value, record.build
        return value

    def _load_reduce(self) -> None:
        args = self.stack.pop()
        record = self.stack.pop()
        callable_ = type(record) is _Admitted and record.call is not None and type(args) is tuple
        _require(callable_, f'a call of {_describe(record)}')
        self.append(self._remember(record, record.call(*args)))

    def _load_newobj(self) -> None:
        args = self.stack.pop()
        record = self.stack.pop()
        creatable = type(record) is _Admitted and record.new is not None and type(args) is tuple and not args
        _require(creatable, f'a new {_describe(record)}')
        self.append(self._remember(record, record.new()))

    def _load_build(self) -> None:
        state = self.stack.pop()
        value = self.stack[-1]
        _, build = self._unbuilt.pop(id(value), (None, None))
        _require(build is not None, f'a new state for {_describe(value)}')
        build(value, state)

    def _load_inst(self) -> None:
        module = self.readline()[:-1].decode('ascii')
        name = self.readline()[:-1].decode('ascii')
        raise RefusedError(f'the global {module}.{name}')

    def _load_binpersid(self) -> None:
        # Storages of tensors. torch's readers know one more kind, which looks for the source code of modules.
        pid = self.stack.pop()
        _require(type(pid) is tuple and len(pid) in (5, 6), 'a malformed storage')
        tag, kind, key, location, numel, *view = pid
        _require(
            tag in ('storage', b'storage')
            and (type(kind) is StorageType or kind is torch.UntypedStorage)
            and type(key) is str
            and type(location) in (str, bytes)
            and _is_size(numel),
            'a malformed storage',
        )
        if view and view[0] is not None:
            _require(
                type(view[0]) is tuple and len(view[0]) == 3 and type(view[0][0]) is str and _is_sizes(view[0][1:]),
                'a malformed view of a storage',
            )
        self.append(self.persistent_load(pid))

    def _load_append(self) -> None:
        self._require_kind(self.stack[-2], list)
        self.load_append()

    def _load_appends(self) -> None:
        self._require_kind(self.metastack[-1][-1], list)
        self.load_appends()

    def _load_setitem(self) -> None:
        self._require_kind(self.stack[-3], dict, collections.OrderedDict)
        self.load_setitem()

    def _load_setitems(self) -> None:
        self._require_kind(self.metastack[-1][-1], dict, collections.OrderedDict)
        self.load_setitems()

    def _load_additems(self) -> None:
        self._require_kind(self.metastack[-1][-1], set)
        self.load_additems()

    @staticmethod
    def _require_kind(target: Any, *kinds: type) -> None:
        # Any other type's append or __setitem__ may do more than put a value into a container.
        _require(type(target) in kinds, f'a new item for {_describe(target)}')

    def _load_extension(self) -> None:
        raise RefusedError('a global given by an extension code')

    def _load_refused(self) -> None:
        raise RefusedError('an instruction of the pickle format that no checkpoint needs')

    dispatch.update(
        {
            pickle.REDUCE[0]: _load_reduce,
            pickle.NEWOBJ[0]: _load_newobj,
            pickle.BUILD[0]: _load_build,
            pickle.INST[0]: _load_inst,
            pickle.BINPERSID[0]: _load_binpersid,
            pickle.APPEND[0]: _load_append,
            pickle.APPENDS[0]: _load_appends,
            pickle.SETITEM[0]: _load_setitem,
            pickle.SETITEMS[0]: _load_setitems,
            pickle.ADDITEMS[0]: _load_additems,
            **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), _load_extension),
            **dict.fromkeys(
                (
                    pickle.OBJ[0],
                    pickle.NEWOBJ_EX[0],
                    pickle.PERSID[0],
                    pickle.BYTEARRAY8[0],
                    pickle.NEXT_BUFFER[0],
                    pickle.READONLY_BUFFER[0],
                ),
                _load_refused,
            ),
        }
    )


def load(file: IO[bytes], **kwargs: Any) -> Any:
    """Read one pickle.

    Args:
        file: Binary file at the start of a pickle.
        **kwargs: As for ``pickle.load``.

    Returns:
        The value it describes.

    Raises:
        RefusedError: It asks for something a checkpoint does not need.
    """
    return Unpickler(file, **kwargs).load()
