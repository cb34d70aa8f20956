"""Damage in the zip archives of ``torch.save``, whose checksums ``torch.load`` does not look at."""

import os
import zipfile
import zlib

__all__ = ['find_damage']

#: Bytes read at a time.
_BLOCK = 2**20
#: What the records of an archive may add up to, in bytes and as a multiple of the file. ``torch.save`` does not
#: compress; a few kilobytes of another writer could fill the memory of a machine.
_ALWAYS = 2**26
_EXPANSION = 16


def find_damage(path: str | os.PathLike) -> str | None:
    """Compare the records of an archive with their checksums.

    A flipped bit among the weights would otherwise be loaded as a number like any other. Costs one more reading of the
    file, about a second per gigabyte.

    Args:
        path: File that starts as a zip archive does.

    Returns:
        What is wrong, or ``None``. Archives that were written without checksums
        (``torch.serialization.set_crc32_options(False)``) pass.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            total = sum(record.file_size for record in records)
            if total > max(_ALWAYS, _EXPANSION * os.path.getsize(path)):
                return f'its records would unpack to {total} bytes'
            if not any(record.CRC for record in records):
                return None
            for record in records:
                with archive.open(record) as file:
                    while file.read(_BLOCK):
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError) as error:
        # RuntimeError and its NotImplementedError: an encryption or a compression that a flipped bit asks for.
        return str(error).strip() or type(error).__name__
    return None
