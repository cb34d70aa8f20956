"""Loading of checkpoint files under torch >= 2.6 without running the code they may contain.

torch loads with ``weights_only=True`` by default, which mmengine's own checkpoints do not pass: their message hub holds
``HistoryBuffer`` objects, whose pickles need ``getattr``. Here a file that torch's reader refuses is read a second time
with `mmlk.compat.safe_unpickler`, which admits what mmengine and the authors of large-kernel networks write and nothing
that could run code. A file that fails both is refused with one sentence, as is an archive whose checksums do not match,
which torch does not compare. Config texts that mmengine would run are taken out (`mmlk.compat.config_text`).
"""

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch

from mmlk.errors import UsageError

from . import safe_unpickler
from .checkpoint_archive import find_damage
from .config_text import drop_programs

__all__ = ['CheckpointError', 'CheckpointNotFoundError', 'UnsafeCheckpointError', 'load_checkpoint_file']


class CheckpointError(UsageError):
    """Raised where a checkpoint cannot be loaded: damaged, of another format, or not to be had."""


class CheckpointNotFoundError(FileNotFoundError, CheckpointError):
    """Raised where there is no such file, or no checkpoint of such a name."""


class UnsafeCheckpointError(pickle.UnpicklingError, CheckpointError):
    """Raised where loading a file could run code; nothing of it has run."""


def load_checkpoint_file(file: str | os.PathLike, map_location: Any = None) -> Any:
    """Load a checkpoint written by ``torch.save`` without running any code it may contain.

    Args:
        file: Path of the checkpoint; ``~`` stands for the home directory.
        map_location: Where tensors go, as for ``torch.load``; ``None`` puts them where they were saved from.

    Returns:
        What was saved: tensors, numbers, strings, containers of these, numpy arrays, and mmengine's ``HistoryBuffer``
        and ``ConfigDict``.

    Raises:
        CheckpointNotFoundError: There is no such file.
        UnsafeCheckpointError: The file asks for something that could run code; the message names it.
        CheckpointError: The file is damaged or is not a checkpoint; the message says which.
    """
    path = Path(file).expanduser()
    _check_format(path)
    checkpoint = _read(path, map_location)
    drop_programs(checkpoint, str(path))
    return checkpoint


def _read(path: Path, map_location: Any) -> Any:
    """Unpickle a file of a known format, with torch's restricted reader or else with ours."""
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        pass
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        raise _explain(path, error) from error
    if os.environ.get('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0') in ('1', 'y', 'yes', 'true'):
        raise UnsafeCheckpointError(
            f'{path} holds more than weights, and TORCH_FORCE_WEIGHTS_ONLY_LOAD is set: unset it to have the file read '
            'by the restricted loader of mmlk'
        )
    try:
        # With a pickle module given, torch hands all of the unpickling to it.
        return torch.load(path, map_location=map_location, pickle_module=safe_unpickler)
    except safe_unpickler.RefusedError as error:
        raise UnsafeCheckpointError(
            f'{path} was not loaded, because it contains {error}, which a checkpoint of weights and settings does not '
            'need and which could run code: use a file from a source you trust that holds only a state dict, or, if '
            'the file is your own, save it again with tensors, numbers, strings, lists and dicts'
        ) from None
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        raise _explain(path, error) from error


def _check_format(path: Path) -> None:
    """Refuse what is not a checkpoint of a format that goes through an unpickler alone."""
    if path.is_dir():
        raise CheckpointError(f'{path} is a directory: give the path of a checkpoint file in it')
    if not path.is_file():
        raise CheckpointNotFoundError(f'{path} does not exist: give the path of a checkpoint file')
    with path.open('rb') as file:
        start = file.read(16)
    if not start:
        raise CheckpointError(f'{path} is empty: copy, download or save the checkpoint again')
    if start.startswith(b'PK\x03\x04'):
        damage = find_damage(path)
        if damage is not None:
            raise _damaged(path, damage)
        try:
            records = torch._C.PyTorchFileReader(str(path)).get_all_records()
        except RuntimeError as error:
            raise _explain(path, error) from error
        # torch.load hands such an archive to torch.jit.load, whatever it was told about pickles.
        if 'constants.pkl' in records:
            raise UnsafeCheckpointError(
                f'{path} is a TorchScript archive, that is, a program and not only weights: if you trust its '
                'source, load it with torch.jit.load and save its state_dict() to a file of its own'
            )
    elif start[0] and tarfile.is_tarfile(path):
        raise UnsafeCheckpointError(
            f'{path} has the tar format of torch before 0.1.10, which cannot be read safely: if you trust its source, '
            'load it with the torch it was written with and save its state dict again'
        )
    # All that is left is the format of torch before 1.6, which starts with a pickle of protocol 2 or later.
    elif not start.startswith(b'\x80'):
        raise CheckpointError(
            f'{path} is not a checkpoint written by torch.save (it starts with {start!r}): check '
            'that the download is not an error page or a pointer file, and give the path of the weights'
        )


def _explain(path: Path, error: Exception) -> CheckpointError:
    """Turn what torch and the unpicklers raise on a file they cannot read into one sentence."""
    text = str(error).strip().partition('\n')[0]
    if isinstance(error, ImportError):
        return CheckpointError(f'{path} holds objects of a package that is not installed here: install it ({text})')
    if 'map_location' in str(error):
        return CheckpointError(
            f'{path} holds tensors of a device that is not available here: pass map_location="cpu" ({text})'
        )
    return _damaged(path, f'{type(error).__name__}: {text}')


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f'{path} is truncated, damaged or not a checkpoint written by torch.save: copy, download or save it again '
        f'({what})'
    )
