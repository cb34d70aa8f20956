"""mmengine's checkpoint addresses (``https://``, ``torchvision://``, ``openmmlab://``, ...) on top of the safe loader.

Names are resolved with mmengine's own tables; what is found is downloaded and read by `load_checkpoint_file`, where
mmengine itself would hand it to ``torch.load`` or ``torch.hub``. Only names that mmengine and its maintained fork both
have are used.
"""

import difflib
import os
import tempfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend

from .checkpoint_loader import CheckpointError, CheckpointNotFoundError, load_checkpoint_file

__all__ = ['download_checkpoint', 'register']


def register(checkpoint_module: ModuleType) -> None:
    """Replace the loader of every scheme of mmengine's ``CheckpointLoader``.

    Args:
        checkpoint_module: ``mmengine.runner.checkpoint``.
    """
    for prefixes, loader in _LOADERS:
        checkpoint_module.CheckpointLoader.register_scheme(prefixes, loader, force=True)


def download_checkpoint(url: str, progress: bool = True) -> Path:
    """Download a checkpoint, unless it is there, into ``<torch hub>/checkpoints``, where torch and mmengine look too.

    In a distributed run the first process downloads and the others wait for it.

    Args:
        url: Address of the file.
        progress: Show a progress bar.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: The download failed.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', os.path.basename(urlparse(url).path))
    try:
        if get_rank() == 0:
            _fetch(url, path, progress)
    finally:
        barrier()
    # On a machine that does not share the first process's disk the file is still missing.
    _fetch(url, path, progress)
    return path


def _fetch(url: str, path: Path, progress: bool) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # It writes beside the file and renames, so an interrupted download leaves nothing that looks complete.
        torch.hub.download_url_to_file(url, str(path), progress=progress)
    except (OSError, HTTPException) as error:
        raise CheckpointError(
            f'{url} could not be downloaded ({error}): check the address and the network, or '
            f'download it elsewhere and put it at {path}'
        ) from error


def _tables() -> ModuleType:
    # Late: this file is imported while mmengine's module is, or before it, and the two must not wait for each other.
    from mmengine.runner import checkpoint

    return checkpoint


def _split_scheme(filename: str) -> tuple[str, str]:
    scheme, separator, name = filename.partition('://')
    return scheme + separator, name


def _look_up(names: Mapping[str, str], name: str, scheme: str) -> str:
    if name not in names:
        nearest = [scheme + match for match in difflib.get_close_matches(name, names, n=3, cutoff=0.5)]
        raise CheckpointNotFoundError(
            f'{scheme}{name} is not a known checkpoint: use the path of a file or a known '
            f'name (nearest: {", ".join(nearest) or "none"})'
        )
    return names[name]


# mmengine logs a loader's name from its eleventh letter on, hence the prefix.


def load_from_local(filename: str, map_location: Any = None) -> Any:
    return load_checkpoint_file(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> Any:
    return load_checkpoint_file(download_checkpoint(filename, progress=os.isatty(0)), map_location)


def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    scheme, name = _split_scheme(filename)
    return load_from_http(_look_up(_tables().get_torchvision_models(), name, scheme), map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    scheme, name = _split_scheme(filename)
    name = _tables().get_deprecated_model_names().get(name, name)
    address = _look_up(_tables().get_external_models(), name, scheme)
    if address.startswith(('http://', 'https://')):
        return load_from_http(address, map_location)
    return load_checkpoint_file(Path(_tables()._get_mmengine_home(), address), map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    scheme, name = _split_scheme(filename)
    checkpoint = load_from_http(_look_up(_tables().get_mmcls_models(), name, scheme), map_location)
    return _tables()._process_mmcls_checkpoint(checkpoint)


def load_from_ceph(filename: str, map_location: Any = None, backend: str = 'petrel') -> Any:
    content = get_file_backend(filename, backend_args={'backend': backend}).get(filename)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, os.path.basename(filename))
        path.write_bytes(content)
        return load_checkpoint_file(path, map_location)


def load_from_pavi(filename: str, map_location: Any = None) -> Any:
    from pavi import modelcloud

    model = modelcloud.get(_split_scheme(filename)[1])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, os.path.basename(model.name))
        model.download(str(path))
        return load_checkpoint_file(path, map_location)


# The prefixes are regular expressions. mmengine keeps its loaders under them, so they are spelled exactly as there.
_LOADERS = (
    ('', load_from_local),
    (('http://', 'https://'), load_from_http),
    (('modelzoo://', 'torchvision://'), load_from_torchvision),
    (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
    ('mmcls://', load_from_mmcls),
    ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_ceph),
    ('pavi://', load_from_pavi),
)
