"""What is installed, by the metadata of the distributions; nothing is imported."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata

#: Shown with their versions, installed or not.
SHOWN = (
    'torch',
    'torchvision',
    'triton',
    'numpy',
    'timm',
    'setuptools',
    'pycocotools',
    'ftfy',
    'regex',
    'onnx',
    'onnxruntime',
    'onnxscript',
    'tensorboard',
)
#: All write the package ``cv2``.
OPENCV = (
    'opencv-python-headless',
    'opencv-python',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)


def canonical(name: str) -> str:
    """A name as package indexes write it."""
    return re.sub('[-_.]+', '-', name).lower()


def installed() -> dict[str, str]:
    """Version by name of distribution; the first on the path, which is the one that is imported."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata['Name'], distribution.version
        except Exception:  # a damaged record: whatever it is, it is not an installed package
            continue
        if name and version:
            versions.setdefault(canonical(name), version)
    return versions


def importable(name: str) -> bool:
    """Whether there is a module of this name; it is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def release(version: str) -> tuple[int, ...]:
    """Numbers of a version before any suffix: ``'2.11.0+cu130'`` is (2, 11, 0)."""
    match = re.match(r'\d+(?:\.\d+)*', version)
    return tuple(map(int, match[0].split('.'))) if match else ()
