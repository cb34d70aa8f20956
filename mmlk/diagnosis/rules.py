"""What is known not to work, how it shows, and the cure."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mmlk.diagnosis import import_rules, machine_rules
from mmlk.diagnosis.facts import Facts, Finding, Rule
from mmlk.diagnosis.packages import OPENCV, importable, release

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
#: What to install for an import name: of the upstream family, of the fork.
NEEDED = {'mmengine': ('mmengine', 'onedl-mmengine'), 'mmcv': ('mmcv-lite', 'onedl-mmcv')}
HOSTS = {
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
}
#: From this version on the upstream hosts refuse mmcv when they are imported.
MMCV_TOO_NEW = (2, 2, 0)
#: The first version of setuptools that announces the end of pkg_resources.
SETUPTOOLS_WARNS = (81,)
#: OpenCV before this was compiled for NumPy 1.
OPENCV_FOR_NUMPY_2 = (4, 10)


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
    if 'torch' not in facts.versions and not facts.works('torch'):
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
    fork = facts.family.name == 'onedl'
    for name, distributions in NEEDED.items():
        if name not in present:
            yield Finding(True, f'{name} is not installed, the hosts need it', f'pip install {distributions[fork]}')
    for name, distributions in HOSTS.items():
        if name not in present:
            yield Finding(
                False, f'{name} is not installed: its configs cannot run', f'pip install {distributions[fork]}'
            )
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
    if len(set(sources.values())) == 2 and not facts.works('torchvision'):
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
            len(versions) > 1 or not facts.works('cv2'),
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
    elif version and release(version) >= SETUPTOOLS_WARNS:
        yield Finding(False, f'setuptools {version} warns of pkg_resources, which later releases remove', cure)


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
    import_rules.failed_steps,
    import_rules.wrong_results,
    machine_rules.gpu,
    machine_rules.compiler,
    machine_rules.threads,
    machine_rules.room,
    numpy_2_and_mmcv,
    machine_rules.surroundings,
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
