"""What is known not to work, how it shows, and the cure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mmlk.compat.families import Family
from mmlk.diagnosis import machine as machine_module
from mmlk.diagnosis.machine import Machine
from mmlk.diagnosis.packages import OPENCV, importable, release
from mmlk.diagnosis.probes import Step

PYTHONS = ((3, 11), (3, 12))
#: Oldest versions that this package is written for, by distribution.
OLDEST = {
    'torch': '2.6',
    'torchvision': '0.21',
    'timm': '1.0',
    'mmengine': '0.10.7',
    'mmcv': '2.0.0',
    'mmcv-lite': '2.0.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'mmpretrain': '1.2.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
    'onedl-mmpretrain': '1.3.6',
}
#: Which distributions a host's import name stands for, upstream first.
HOSTS = {'mmpretrain': 'mmpretrain', 'mmdet': 'mmdet', 'mmseg': 'mmsegmentation'}
#: From this version on the upstream hosts refuse mmcv when they are imported.
MMCV_TOO_NEW = (2, 2, 0)
#: The first version of setuptools that announces the end of pkg_resources.
SETUPTOOLS_LAST_GOOD = (81,)
#: OpenCV before this was compiled for NumPy 1.
OPENCV_FOR_NUMPY_2 = (4, 10)

#: Below these amounts (GiB) training fails sooner or later.
LITTLE_DISK, LITTLE_MEMORY, LITTLE_SHM = 1.0, 2.0, 0.25
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


@dataclass(frozen=True)
class Facts:
    """All that was found out."""

    python: tuple[int, int]
    versions: dict[str, str]
    family: Family
    machine: Machine
    steps: dict[str, Step]


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
        problem: Whether something fails because of it; otherwise it is a note.
        what: A sentence.
        cure: What to do; may be empty for a note.
    """

    problem: bool
    what: str
    cure: str = ''


Rule = Callable[[Facts], Iterator[Finding]]


def python_version(facts: Facts) -> Iterator[Finding]:
    """Too old is a problem, too new is unknown."""
    text = '.'.join(map(str, facts.python))
    tested = ' and '.join('.'.join(map(str, version)) for version in PYTHONS)
    if facts.python < PYTHONS[0]:
        yield Finding(True, f'Python {text} is too old for mmlk', f'make an environment with Python {tested}')
    elif facts.python not in PYTHONS:
        yield Finding(False, f'Python {text} is not tested, {tested} are')


def two_families(facts: Facts) -> Iterator[Finding]:
    """Both families, or two distributions of one module."""
    for note in facts.family.notes:
        what, _, cure = note.partition(': ')
        yield Finding(True, what, cure)


def too_old(facts: Facts) -> Iterator[Finding]:
    """Versions below what this package is written for."""
    for name, oldest in OLDEST.items():
        version = facts.versions.get(name)
        if version is not None and release(version) < release(oldest):
            yield Finding(
                True, f'{name} {version} is too old, mmlk needs {oldest}', f'pip install -U "{name}>={oldest}"'
            )


def nothing_installed(facts: Facts) -> Iterator[Finding]:
    """Without torch nothing works, without the hosts only the operators do."""
    if 'torch' not in facts.versions and not _works(facts, 'torch'):
        yield Finding(
            True,
            f'torch is not installed for {sys.executable}',
            'bash tools/quickstart.sh makes an environment, or activate the one it is in (source .venv/bin/activate)',
        )
        return
    if facts.family.name == 'none':
        yield Finding(
            False,
            'no package of OpenMMLab is installed: mmlk.ops and mmlk.accelerate work, configs and networks do not',
            "pip install -e '.[openmmlab]'",
        )
        return
    present = {package.import_name for package in facts.family.packages}
    for name in ('mmengine', 'mmcv'):
        if name not in present:
            lite = 'mmcv-lite' if name == 'mmcv' else name
            yield Finding(True, f'{name} is not installed, the hosts need it', f'pip install {_prefixed(facts, lite)}')
    for name, distribution in HOSTS.items():
        if name not in present:
            yield Finding(False, f'{name} is not installed: its configs cannot run', f'pip install {distribution}')
    for name in ('torchvision', 'timm'):
        if name not in facts.versions:
            yield Finding(True, f'{name} is not installed, the networks of mmlk need it', f'pip install {name}')


def undeclared(facts: Facts) -> Iterator[Finding]:
    """Packages that mmsegmentation imports without declaring them."""
    if 'mmsegmentation' in facts.versions:
        missing = [name for name in ('ftfy', 'regex') if name not in facts.versions]
        if missing:
            names = ' and '.join(missing)
            yield Finding(
                True,
                f'mmsegmentation needs {names} without declaring it, not installed here',
                f'pip install {" ".join(missing)}',
            )


def mmcv_too_new(facts: Facts) -> Iterator[Finding]:
    """The upstream hosts refuse mmcv 2.2 with an assertion."""
    for name in ('mmcv', 'mmcv-lite'):
        version = facts.versions.get(name)
        hosts = [host for host in ('mmdet', 'mmsegmentation') if host in facts.versions]
        if version is not None and release(version) >= MMCV_TOO_NEW and hosts:
            yield Finding(
                True,
                f'{name} {version} is refused by {" and ".join(hosts)}, which want mmcv below 2.2.0',
                f'pip uninstall {name}; pip install "mmcv-lite>=2.1.0,<2.2.0"',
            )


def torch_pair(facts: Facts) -> Iterator[Finding]:
    """torch 2.x belongs to torchvision 0.(x + 15), from the same source."""
    torch, vision = (facts.versions.get(name) for name in ('torch', 'torchvision'))
    if torch is None or vision is None:
        return
    ours, theirs = release(torch), release(vision)
    if ours[:1] == (2,) and len(theirs) > 1 and theirs[:2] != (0, ours[1] + 15):
        yield Finding(
            True,
            f'torchvision {vision} does not belong to torch {torch}, which wants torchvision 0.{ours[1] + 15}',
            f'pip install "torch=={torch.partition("+")[0]}" "torchvision==0.{ours[1] + 15}.*"',
        )
    sources = {name: version.partition('+')[2] for name, version in (('torch', torch), ('torchvision', vision))}
    if len(set(sources.values())) == 2 and not _works(facts, 'torchvision'):
        yield Finding(
            True,
            f'torch {torch} and torchvision {vision} come from different sources',
            'install both from one source in one command',
        )


def several_opencv(facts: Facts) -> Iterator[Finding]:
    """Several distributions that write the package cv2; one compiled for NumPy 1."""
    found = [name for name in OPENCV if name in facts.versions]
    if len(found) > 1:
        versions = {facts.versions[name] for name in found}
        # Of one version they hold the same files, but for the graphics.
        yield Finding(
            len(versions) > 1 or not _works(facts, 'cv2'),
            f'{" and ".join(found)} are installed together and overwrite files of one another',
            f'pip uninstall -y {" ".join(found)}; pip install opencv-python-headless',
        )
    numpy = facts.versions.get('numpy')
    for name in found:
        if numpy and release(numpy) >= (2,) and release(facts.versions[name]) < OPENCV_FOR_NUMPY_2:
            yield Finding(
                True,
                f'{name} {facts.versions[name]} was compiled for NumPy 1, and this is NumPy {numpy}',
                f'pip install -U "{name}>=4.10", or pip install "numpy<2"',
            )


def numpy_2_and_mmcv(facts: Facts) -> Iterator[Finding]:
    """mmcv's hue adjustment puts a negative number into an unsigned one."""
    numpy = facts.versions.get('numpy')
    if numpy and release(numpy) >= (2,) and facts.family.name == 'upstream':
        yield Finding(
            False,
            f'mmcv of the upstream family raises OverflowError in ColorJitter(hue=...) with NumPy {numpy}',
            'leave hue out of the pipeline (the configs of mmlk do), or pip install "numpy<2"',
        )


def pkg_resources(facts: Facts) -> Iterator[Finding]:
    """mmengine asks pkg_resources where a package is; setuptools 82 has none."""
    version = facts.versions.get('setuptools')
    if facts.family.name == 'none':
        return
    cure = 'pip install "setuptools<81"'
    if not importable('pkg_resources'):
        have = f'setuptools {version} has none any more' if version else 'setuptools is not installed'
        yield Finding(
            True, f'mmengine needs pkg_resources for configs of other packages (mmseg::...), and {have}', cure
        )
    elif version and release(version) >= SETUPTOOLS_LAST_GOOD:
        yield Finding(False, f'setuptools {version} warns of pkg_resources, which later releases remove', cure)


def failed_steps(facts: Facts) -> Iterator[Finding]:
    """Whatever is installed and cannot be imported, or computes wrongly."""
    reported: set[str] = set()
    for name, step in facts.steps.items():
        if step.ok:
            if step.facts.get('works') is False:
                yield Finding(True, f'{name} can be imported but computes wrongly', 'reinstall it')
            continue
        missing = (step.missing or '').partition('.')[0]
        if missing in (name, 'torch') or _is_absent(facts, name):
            continue
        # The same root once: where torchvision fails, all that imports it does.
        root = step.error.rpartition(' <- ')[2]
        if root in reported:
            continue
        reported.add(root)
        if missing:
            yield Finding(True, f'{name} cannot be imported: {missing} is not installed', f'pip install {missing}')
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


def gpu(facts: Facts) -> Iterator[Finding]:
    """A GPU that torch cannot use."""
    driver, step = facts.machine.driver, facts.steps.get('torch')
    if step is None or not step.ok:
        return
    torch = step.facts
    hidden = facts.machine.variables.get('CUDA_VISIBLE_DEVICES')
    if driver is None or not driver.get('gpus'):
        if driver is not None and driver.get('error'):
            yield Finding(True, f'nvidia-smi fails: {driver["error"]}', 'repair or restart the NVIDIA driver')
    elif not torch['cuda_available']:
        names = ', '.join(driver['gpus'])
        if hidden is not None and (not hidden or hidden.startswith('-')):
            yield Finding(False, f'CUDA_VISIBLE_DEVICES={hidden!r} hides the GPUs ({names})', 'unset it to use them')
        elif torch['cuda_build'] is None:
            yield Finding(
                True, f'torch {torch["version"]} is built without CUDA, and there is a GPU ({names})',
                'install torch and torchvision with CUDA, both from one source',
            )  # fmt: skip
        else:
            yield Finding(
                True,
                f'torch is built for CUDA {torch["cuda_build"]} and cannot use the GPU ({names}); the driver '
                f'{driver["version"]} runs CUDA up to {driver["cuda"]}',
                f'update the driver, or install torch built for CUDA {driver["cuda"]} or older',
            )
    for device in torch['gpus']:
        capability = '{}.{}'.format(*device['capability'])
        if not _has_code(device['capability'], torch.get('arch_list') or []):
            yield Finding(
                True,
                f'torch {torch["version"]} has no code for {device["name"]} (compute capability {capability})',
                'install a torch built for it',
            )
        elif device['capability'] < [8, 0]:
            yield Finding(
                False,
                f'{device["name"]} has compute capability {capability}: the Triton kernels need 8.0, PyTorch runs',
            )
    if torch.get('gpu_works') is False:
        yield Finding(True, 'the GPU computes wrongly', 'check the hardware and the driver')


def compiler(facts: Facts) -> Iterator[Finding]:
    """``torch.compile`` on the CPU needs a C++ compiler, Triton a C one; both need Python's headers."""
    lacking = [f'no {name} compiler' for name, path in facts.machine.compilers.items() if path is None]
    if not facts.machine.headers:
        lacking.append('no headers of Python')
    if lacking and _works(facts, 'torch'):
        yield Finding(
            False,
            f'torch.compile and the Triton kernels compile code, and here is {" and ".join(lacking)}',
            'on Debian: apt install build-essential python3-dev',
        )


def threads(facts: Facts) -> Iterator[Finding]:
    """More threads than processors are slower than one."""
    machine = facts.machine
    usable = max(1, int(machine.usable_cores))
    step = facts.steps.get('torch')
    count = step.facts.get('threads') if step and step.ok else None
    if count and count > usable:
        yield Finding(
            False,
            f'torch uses {count} threads on {machine.usable_cores:g} usable of {machine.cores} processors',
            f'export OMP_NUM_THREADS={usable}',
        )


def room(facts: Facts) -> Iterator[Finding]:
    """Disk, memory, shared memory."""
    for folder, free in facts.machine.disk_gib.items():
        if free < LITTLE_DISK:
            yield Finding(True, f'{folder} has {free:g} GiB left: checkpoints will not fit', 'free some space')
    if facts.machine.memory_gib and facts.machine.memory_gib[0] < LITTLE_MEMORY:
        yield Finding(
            False, f'{facts.machine.memory_gib[0]:g} GiB of memory are free', 'take a smaller batch and fewer workers'
        )
    shm = facts.machine.shm_gib
    if shm is not None and shm < LITTLE_SHM:
        yield Finding(
            False,
            f'/dev/shm has {shm:g} GiB free: workers of a data loader may die with a bus error',
            'start the container with --shm-size=2g, or set train_dataloader.num_workers=0 '
            'train_dataloader.persistent_workers=False',
        )


def surroundings(facts: Facts) -> Iterator[Finding]:
    """Settings that surprise."""
    variables = facts.machine.variables
    other = machine_module.in_another_environment()
    if other:
        yield Finding(
            False, f'{other} is activated, but this is {sys.executable}', 'run `python`, not a path to another one'
        )
    if variables.get('TRITON_INTERPRET') == '1':
        yield Finding(False, "TRITON_INTERPRET=1 runs Triton's kernels in its interpreter, for tests only", 'unset it')
    if variables.get('PYTHONPATH'):
        yield Finding(
            False, f'PYTHONPATH={variables["PYTHONPATH"]}: what lies there comes before what is installed', 'unset it'
        )


RULES: tuple[Rule, ...] = (
    python_version,
    nothing_installed,
    two_families,
    too_old,
    mmcv_too_new,
    torch_pair,
    several_opencv,
    undeclared,
    pkg_resources,
    failed_steps,
    wrong_results,
    gpu,
    compiler,
    threads,
    room,
    numpy_2_and_mmcv,
    surroundings,
)


def judge(facts: Facts) -> list[Finding]:
    """What all rules find, problems first."""
    findings = []
    for rule in RULES:
        try:
            findings += rule(facts)
        except Exception as error:  # what is broken here may be anything, and the other rules still count
            findings.append(Finding(False, f'the rule {rule.__name__} could not be applied ({error!r})'))
    return sorted(findings, key=lambda finding: not finding.problem)


def _works(facts: Facts, name: str) -> bool:
    step = facts.steps.get(name)
    return step is not None and step.ok


def _is_absent(facts: Facts, name: str) -> bool:
    """Whether a package was not installed at all, which other rules speak of."""
    if name in ('ops', 'mmlk'):
        return 'torch' not in facts.versions or (name == 'mmlk' and facts.family.name == 'none')
    if name in ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg'):
        return name not in {package.import_name for package in facts.family.packages}
    if name == 'cv2':
        return facts.family.name == 'none' and not any(other in facts.versions for other in OPENCV)
    return name not in facts.versions


def _prefixed(facts: Facts, name: str) -> str:
    return f'onedl-{name.removesuffix("-lite")}' if facts.family.name == 'onedl' else name


def _has_code(capability: list[int], arch_list: list[str]) -> bool:
    """Whether a build of torch has code for a GPU: that of its own generation, or PTX of an older one."""
    if not arch_list:
        return True
    for name in arch_list:
        kind, _, digits = name.partition('_')
        digits = ''.join(character for character in digits if character.isdigit())
        if len(digits) < 2:
            continue
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == 'compute' and [major, minor] <= capability:
            return True
        if kind == 'sm' and major == capability[0] and minor <= capability[1]:
            return True
    return False


def _short(error: str, limit: int = 300) -> str:
    return error if len(error) <= limit else f'{error[:limit]} ...'
