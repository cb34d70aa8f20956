"""Imports run one way: ops <- nn <- layers <- mixers <- backbones <- analysis, the command line on top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mmlk

PACKAGE = Path(mmlk.__file__).parent
#: Without .mim, which holds the configs and tools of an installed package.
MODULES = sorted(path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts)

#: What each part may import of the package (besides itself); the longest matching prefix counts.
ALLOWED = {
    'mmlk': {'mmlk.compat', 'mmlk.errors', 'mmlk.factory', 'mmlk.nn', 'mmlk.version'},
    'mmlk.version': set(),
    'mmlk.errors': set(),
    'mmlk.files': set(),
    'mmlk.launcher': {'mmlk.errors'},
    'mmlk.registry': set(),
    'mmlk.compat': {'mmlk.errors', 'mmlk.version'},
    'mmlk.ops': set(),
    'mmlk.nn': {'mmlk.ops'},
    'mmlk.checkpoints': {'mmlk.compat', 'mmlk.errors', 'mmlk.registry', 'mmlk.version', 'mmlk.files'},
    'mmlk.models': {
        'mmlk.models.backbones',
        'mmlk.models.layers',
        'mmlk.models.mixers',
        'mmlk.models.reparam',
        'mmlk.nn',
        'mmlk.registry',
    },
    'mmlk.models.reparam': set(),
    'mmlk.models.shrink': {'mmlk.models.mixers', 'mmlk.models.reparam', 'mmlk.nn', 'mmlk.ops'},
    'mmlk.models.layers': {'mmlk.models.reparam', 'mmlk.nn', 'mmlk.ops', 'mmlk.registry'},
    'mmlk.models.mixers': {'mmlk.models.layers', 'mmlk.models.reparam', 'mmlk.ops', 'mmlk.registry'},
    'mmlk.models.backbones': {
        'mmlk.checkpoints',
        'mmlk.models.layers',
        'mmlk.models.mixers',
        'mmlk.models.reparam',
        'mmlk.registry',
    },
    'mmlk.factory': {
        'mmlk.checkpoints',
        'mmlk.compat',
        'mmlk.errors',
        'mmlk.factory.names',
        'mmlk.models',
        'mmlk.registry',
    },
    'mmlk.factory.names': {'mmlk.errors'},
    'mmlk.inference': {'mmlk.checkpoints', 'mmlk.errors', 'mmlk.models.reparam', 'mmlk.files'},
    'mmlk.sparsity': {'mmlk.errors'},
    'mmlk.engine': {
        'mmlk.analysis',
        'mmlk.errors',
        'mmlk.files',
        'mmlk.launcher',
        'mmlk.models.reparam',
        'mmlk.nn',
        'mmlk.registry',
        'mmlk.sparsity',
    },
    'mmlk.datasets': {'mmlk.errors', 'mmlk.registry', 'mmlk.version'},
    'mmlk.analysis': {'mmlk.datasets', 'mmlk.errors', 'mmlk.models', 'mmlk.files'},
    'mmlk.benchmarks': {'mmlk.errors', 'mmlk.models', 'mmlk.nn', 'mmlk.ops', 'mmlk.version', 'mmlk.files'},
    'mmlk.diagnosis': {'mmlk.compat', 'mmlk.ops', 'mmlk.registry', 'mmlk.version'},
    'mmlk.export': {'mmlk.errors', 'mmlk.models.reparam', 'mmlk.nn', 'mmlk.ops'},
    'mmlk.cli': {
        'mmlk.analysis',
        'mmlk.benchmarks',
        'mmlk.checkpoints',
        'mmlk.compat',
        'mmlk.datasets',
        'mmlk.diagnosis',
        'mmlk.engine',
        'mmlk.errors',
        'mmlk.export',
        'mmlk.inference',
        'mmlk.launcher',
        'mmlk.models',
        'mmlk.ops',
        'mmlk.version',
        'mmlk.files',
    },
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports_of(path: Path) -> set[str]:
    name = module_name(path)
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
            target = '.'.join([*base, *([node.module] if node.module else [])])
            # `from package import module` is an import of the module.
            for alias in node.names:
                is_module = any(
                    (PACKAGE.parent / f'{target}.{alias.name}'.replace('.', '/')).with_suffix(s).exists()
                    for s in ('.py', '')
                )
                found.add(f'{target}.{alias.name}' if is_module else target)
    return {name for name in found if name.split('.')[0] == 'mmlk'}


def part_of(module: str) -> str:
    return max((part for part in ALLOWED if module == part or module.startswith(part + '.')), key=len)


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    name = module_name(path)
    part = part_of(name)
    for imported in imports_of(path):
        if imported == part or (imported.startswith(part + '.') and part != 'mmlk' and part_of(imported) == part):
            continue
        allowed = any(imported == other or imported.startswith(other + '.') for other in ALLOWED[part])
        assert allowed, f'{name} imports {imported}, which {part} may not'


@pytest.mark.parametrize('module', ['mmlk', 'mmlk.nn', 'mmlk.ops', 'mmlk.sparsity'])
def test_works_with_torch_alone(module):
    """With every mm* package, timm, numpy-heavy plotting and Triton unimportable."""
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {{'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'timm', 'torchvision', 'triton',
        'cv2', 'rich'}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import {module}
import torch
from mmlk.ops import depthwise_conv2d
assert depthwise_conv2d(torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3))[0, 0, 2, 2] == 9
"""
    subprocess.run([sys.executable, '-c', code], check=True, cwd=PACKAGE.parent)


def test_no_file_is_too_long():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 500, path
