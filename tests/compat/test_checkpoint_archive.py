"""Damage inside an archive is found by its checksums, which torch does not compare."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch.serialization import set_crc32_options

from mmlk.compat.checkpoint_archive import find_damage
from mmlk.compat.checkpoint_loader import CheckpointError, load_checkpoint_file

WEIGHT = torch.arange(1000.0) / 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({'state_dict': {'weight': WEIGHT}, 'meta': {'iter': 1}}, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_a_flipped_bit_among_the_weights_is_found(path: Path):
    content = bytearray(path.read_bytes())
    content[content.find(WEIGHT.numpy().tobytes()) + 1234] ^= 4
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)['state_dict']['weight'], WEIGHT), 'torch compares checksums by now'
    with pytest.raises(
        CheckpointError, match=r"a.pth is truncated, damaged .* save it again \(Bad CRC-32 for file 'a/data/0'\)"
    ):
        load_checkpoint_file(path)


def test_whole_files_pass(path: Path, tmp_path: Path):
    assert find_damage(path) is None
    # Packed again by another program, compressed.
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / 'b.pth', 'w', zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert torch.equal(load_checkpoint_file(tmp_path / 'b.pth')['state_dict']['weight'], WEIGHT)


def test_files_without_checksums_pass(tmp_path: Path):
    set_crc32_options(False)
    try:
        torch.save({'weight': WEIGHT}, tmp_path / 'a.pth')
    finally:
        set_crc32_options(True)
    assert torch.equal(load_checkpoint_file(tmp_path / 'a.pth')['weight'], WEIGHT)


def test_what_would_fill_the_memory_is_not_unpacked(tmp_path: Path):
    path = tmp_path / 'a.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive, archive.open('a/data.pkl', 'w') as file:
        for _ in range(65):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(CheckpointError, match=f'its records would unpack to {65 * 2**20} bytes'):
        load_checkpoint_file(path)
