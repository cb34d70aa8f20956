"""Packages that are installed and fail, or compute wrongly: what their errors mean."""

from __future__ import annotations

from collections.abc import Iterator

from mmlk.diagnosis.facts import Facts, Finding
from mmlk.diagnosis.packages import OPENCV

#: Relative error of the operator in float32 that is a defect.
OP_ERROR = 1e-4


#: Part of an error -> what it means and what to do.
KNOWN_ERRORS = (
    (
        'operator torchvision::nms does not exist',
        'torch and torchvision were built for different versions or devices',
        'install both from one source in one command: pip install --force-reinstall torch torchvision',
    ),
    (
        '_ARRAY_API not found',
        'it was compiled for NumPy 1 and this is NumPy 2',
        'update the package, or pip install "numpy<2"',
    ),
    (
        'numpy.core.multiarray failed to import',
        'it was compiled for NumPy 1 and this is NumPy 2',
        'update the package, or pip install "numpy<2"',
    ),
    (
        'numpy.dtype size changed',
        'it was compiled for another NumPy',
        'reinstall the package: pip install --force-reinstall --no-cache-dir PACKAGE',
    ),
    (
        'libGL.so',
        'opencv-python needs graphics libraries of the system',
        'pip uninstall opencv-python; pip install --force-reinstall opencv-python-headless',
    ),
    (
        'libgthread',
        'opencv-python needs graphics libraries of the system',
        'pip uninstall opencv-python; pip install --force-reinstall opencv-python-headless',
    ),
    (
        'mmcv/_ext',
        'the compiled mmcv was built for another torch',
        'pip uninstall mmcv; pip install mmcv-lite (mmlk supplies the operators), or compile it for this torch',
    ),
    (
        'MMCV==',
        'mmcv is too new for this host',
        'pip install "mmcv-lite>=2.1.0,<2.2.0" after uninstalling mmcv',
    ),
    (
        'MMEngine==',
        'mmengine does not fit this host',
        'pip install "mmengine>=0.10.7,<0.11"',
    ),
    (
        'pkg_resources',
        'setuptools has no pkg_resources any more',
        'pip install "setuptools<81"',
    ),
    (
        'partially initialized module',
        'a file or folder of yours may have the name of a package',
        'run from another folder, look for it in PYTHONPATH, rename it',
    ),
    (
        'SIGILL',
        'it was compiled for a newer processor',
        'install a build for this processor',
    ),
)


#: Modules of whose absence other rules speak.
REPORTED = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'ftfy', 'regex', 'pkg_resources')
#: Distributions that are called otherwise than their module.
DISTRIBUTIONS = {
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'mmcv': 'mmcv-lite',
    'skimage': 'scikit-image',
    'sklearn': 'scikit-learn',
    'yaml': 'PyYAML',
}


def failed_steps(facts: Facts) -> Iterator[Finding]:
    """Whatever is installed and cannot be imported, or computes wrongly."""
    reported: set[str] = set()
    for name, step in facts.steps.items():
        if step.ok:
            if step.facts.get('works') is False:
                yield Finding(True, f'{name} can be imported but computes wrongly', 'reinstall it')
            continue
        missing = (step.missing or '').partition('.')[0]
        if missing == name or _is_absent(facts, name) or missing in REPORTED and _is_absent(facts, missing):
            continue
        # The same root once: where torchvision fails, all that imports it does.
        root = step.error.rpartition(' <- ')[2]
        if root in reported:
            continue
        reported.add(root)
        if missing:
            cure = f'pip install {DISTRIBUTIONS.get(missing, missing)}'
            yield Finding(True, f'{name} cannot be imported: {missing} is not installed', cure)
            continue
        for text, meaning, cure in KNOWN_ERRORS:
            if text in step.error:
                yield Finding(True, f'{name} fails: {meaning} ({_short(step.error)})', cure.replace('PACKAGE', name))
                break
        else:
            yield Finding(
                True, f'{name} fails: {_short(step.error)}', f'reinstall {name}, or show this to its developers'
            )


def wrong_results(facts: Facts) -> Iterator[Finding]:
    """The operator against its definition, on every device."""
    step = facts.steps.get('ops')
    for device, error in (step.facts.get('error', {}) if step else {}).items():
        if not error <= OP_ERROR:
            yield Finding(
                True,
                f'depthwise_conv2d on {device} is off by {error:.1e}',
                "force PyTorch's convolution with backend='reference' and report it",
            )


def _is_absent(facts: Facts, name: str) -> bool:
    """Whether a package was not installed at all, which other rules speak of."""
    if name in ('ops', 'mmlk'):
        return 'torch' not in facts.versions or (name == 'mmlk' and facts.family.name == 'none')
    if name in ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg'):
        return name not in {package.import_name for package in facts.family.packages}
    if name == 'cv2':
        return facts.family.name == 'none' and not any(other in facts.versions for other in OPENCV)
    return name not in facts.versions


def _short(error: str, limit: int = 300) -> str:
    return error if len(error) <= limit else f'{error[:limit]} ...'
