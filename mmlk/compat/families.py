"""Which of the two families of OpenMMLab packages is installed: upstream, or the maintained fork ("onedl").

Both install the same import names, so whichever is installed second overwrites files of the first. Nothing is imported
to find out; the answer comes from the metadata of the installed distributions.
"""

import re
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import distributions

__all__ = ['Family', 'Package', 'describe', 'detect']

# Import name -> distributions that provide it: upstream ones, then those of the fork.
_PROVIDERS = {
    'mmengine': (('mmengine', 'mmengine-lite'), ('onedl-mmengine',)),
    'mmcv': (('mmcv', 'mmcv-lite', 'mmcv-full'), ('onedl-mmcv',)),
    'mmdet': (('mmdet',), ('onedl-mmdetection',)),
    'mmseg': (('mmsegmentation',), ('onedl-mmsegmentation',)),
    'mmpretrain': (('mmpretrain',), ('onedl-mmpretrain',)),
}


@dataclass(frozen=True)
class Package:
    """One distribution that provides an import name.

    Attributes:
        import_name: What is written after ``import``.
        distribution: What was installed.
        version: Its version.
        family: ``'upstream'`` or ``'onedl'``.
    """

    import_name: str
    distribution: str
    version: str
    family: str


@dataclass(frozen=True)
class Family:
    """The packages found.

    Attributes:
        name: ``'upstream'``, ``'onedl'``, ``'mixed'`` where both occur, or ``'none'``.
        packages: The distributions, in the order of import names; an import name may occur twice or not at all.
        compiled_ops: Whether mmcv has compiled operators for this Python.
        notes: Sentences on what is wrong and what to do, empty where nothing is.
    """

    name: str
    packages: tuple[Package, ...]
    compiled_ops: bool
    notes: tuple[str, ...]


def detect() -> Family:
    """Find out which packages are installed.

    Returns:
        The packages and what to say about them.
    """
    versions: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata['Name']
        if name:
            # The first on the path is the one Python imports.
            versions.setdefault(re.sub('[-_.]+', '-', name).lower(), distribution.version)
    packages = tuple(
        Package(import_name, distribution, versions[distribution], family)
        for import_name, (upstream, onedl) in _PROVIDERS.items()
        for family, providers in (('upstream', upstream), ('onedl', onedl))
        for distribution in providers
        if distribution in versions
    )
    found = {package.family for package in packages}
    name = 'mixed' if len(found) == 2 else next(iter(found), 'none')
    return Family(name, packages, _has_compiled_ops(), _notes(name, packages))


def _notes(name: str, packages: tuple[Package, ...]) -> tuple[str, ...]:
    notes = []
    for import_name in _PROVIDERS:
        rivals = [package.distribution for package in packages if package.import_name == import_name]
        if len(rivals) > 1:
            notes.append(
                f'{import_name} is installed by {" and ".join(rivals)}, which overwrite files of one another: '
                'uninstall all of them and install one again'
            )
    if name == 'mixed' and not notes:
        notes.append(
            'packages of both families are installed, which are tested only within one family: use either '
            'the upstream packages or the onedl- ones throughout'
        )
    return tuple(notes)


def _has_compiled_ops() -> bool:
    mmcv = PathFinder.find_spec('mmcv')
    locations = mmcv.submodule_search_locations if mmcv is not None else None
    return bool(locations) and PathFinder.find_spec('mmcv._ext', list(locations)) is not None


def describe(family: Family | None = None) -> list[str]:
    """Put the packages into words, one line each, then the notes.

    Args:
        family: What to describe; ``None`` detects.

    Returns:
        Lines to print; an import name that nothing provides is listed as missing.
    """
    family = detect() if family is None else family
    lines = []
    for import_name in _PROVIDERS:
        packages = [package for package in family.packages if package.import_name == import_name]
        operators = ''
        if import_name == 'mmcv':
            operators = ', compiled operators' if family.compiled_ops else ', fallback operators of mmlk'
        lines += [
            f'{import_name}: {package.distribution} {package.version} ({package.family}{operators})'
            for package in packages
        ] or [f'{import_name}: not installed']
    return [*lines, *family.notes]
