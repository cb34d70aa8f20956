"""Fixtures shared by the tests of `mmlk.compat`."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

import mmlk  # noqa: F401  before the test files, whose imports of mmcv.ops need the fallback

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[[str], str]:
    """Run code in a Python of its own, away from the repository, and return what it prints."""

    def run(code: str) -> str:
        paths = [str(REPOSITORY), os.environ.get('PYTHONPATH', '')]
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'OMP_NUM_THREADS': '1'}
        result = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def write_archive() -> Callable[[Path, bytes], Path]:
    """Write a checkpoint of today's format whose pickle is given."""

    def write(path: Path, content: bytes) -> Path:
        writer = torch._C.PyTorchFileWriter(str(path))
        writer.write_record('data.pkl', content, len(content))
        writer.write_record('byteorder', sys.byteorder, len(sys.byteorder))
        writer.write_end_of_file()
        return path

    return write


@pytest.fixture
def write_legacy() -> Callable[[Path, bytes], Path]:
    """Write a checkpoint of the format of torch before 1.6 whose pickle is given and which holds no tensor."""

    def write(path: Path, content: bytes) -> Path:
        head = (MAGIC_NUMBER, PROTOCOL_VERSION, dict(protocol_version=PROTOCOL_VERSION, little_endian=True))
        path.write_bytes(b''.join(pickle.dumps(part, 2) for part in head) + content + pickle.dumps([], 2))
        return path

    return write
