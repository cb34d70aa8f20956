"""Files that appear only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it becomes ``path`` when the block ends, and is removed when it fails.

    Folders above are made where they are missing.

    Args:
        path: The file.
        durable: Wait until the content, then the name, is on the disk, so that not even a power failure leaves a file
            of this name with less in it.

    Raises:
        OSError: The file cannot be written there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with written_whole(folder / 'new' / 'a.txt') as partial:
        ...     _ = partial.write_text('all of it')
        >>> [file.name for file in (folder / 'new').iterdir()]
        ['a.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The number keeps two processes that write the same file apart.
    partial = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        yield partial
        if durable:
            _flush(partial)
        os.replace(partial, path)
        if durable:
            _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, content: str | bytes, durable: bool = False) -> None:
    """Write a text (UTF-8) or bytes as :func:`written_whole` does."""
    with written_whole(path, durable) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == 'nt':
        # Windows cannot open folders, and keeps their names itself.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
