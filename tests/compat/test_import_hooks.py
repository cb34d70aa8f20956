"""``import mmlk`` is light, and the fallback and the callbacks come in where they should."""

import importlib
import importlib.util
import statistics
import sys
import types
from pathlib import Path

import pytest

from mmlk import compat
from mmlk.compat import families, import_hooks

IMPORT_SECONDS = 0.5  # what ``import mmlk`` may add to ``import torch, mmengine``


def test_import_is_light(run_python):
    output = run_python("""
import sys, torch, mmengine
before = set(sys.modules)
import mmlk
print(*sorted(set(sys.modules) - before))
""")
    added = output.split()
    assert 'mmlk.compat' in added
    heavy = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'timm', 'triton')
    assert [name for name in added if name.split('.')[0] in heavy] == []
    assert 'mmengine.runner' not in added


def test_import_is_fast(run_python):
    seconds = [
        float(
            run_python("""
import time, torch, mmengine
start = time.perf_counter()
import mmlk
print(time.perf_counter() - start)
""")
        )
        for _ in range(3)
    ]
    assert statistics.median(seconds) < IMPORT_SECONDS, seconds


def test_import_without_mmengine_and_mmcv(run_python):
    output = run_python("""
import sys
class Absent:
    def find_spec(self, name, path, target=None):
        if name.split('.')[0] in ('mmengine', 'mmcv'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import mmlk
print([name for name in sys.modules if name.startswith(('mmengine', 'mmcv'))])
""")
    assert output.strip() == '[]'


def test_install_twice_adds_nothing():
    before = list(sys.meta_path)
    compat.install()
    assert sys.meta_path == before


@pytest.mark.skipif(families.detect().compiled_ops, reason='mmcv has compiled operators, so the fallback stays away')
def test_fallback_has_a_spec_and_mmcv_finds_it():
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec is not None and spec.origin == 'mmlk.compat.mmcv_ops'
    extension = importlib.import_module('mmcv._ext')
    assert extension.__spec__.name == 'mmcv._ext' and extension.__spec__.loader is not None
    from mmcv.utils.ext_loader import check_ops_exist

    assert check_ops_exist()


def test_compiled_extension_wins(run_python):
    """A module in a directory of mmcv's path, as a compiled one is, is taken as it is."""
    output = run_python("""
import pathlib, mmlk, mmcv
directory = pathlib.Path('compiled'); directory.mkdir()
(directory / '_ext.py').write_text('nms = "compiled"')
mmcv.__path__.append(str(directory.resolve()))
import mmcv._ext
print(mmcv._ext.nms, pathlib.Path(mmcv._ext.__file__).parent.name, hasattr(mmcv._ext, 'softnms'))
""")
    assert output.split() == ['compiled', 'compiled', 'False']


def test_broken_compiled_extension_is_reported(run_python):
    output = run_python("""
import pathlib, mmlk, mmcv
directory = pathlib.Path('compiled'); directory.mkdir()
(directory / '_ext.py').write_text('raise ImportError("undefined symbol")')
mmcv.__path__.append(str(directory.resolve()))
try:
    import mmcv._ext
except ImportError as error:
    print(error)
""")
    assert output.strip() == 'undefined symbol'


@pytest.fixture
def module_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of one line on the path, forgotten afterwards, whose import is not watched yet."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'watched_module.py').write_text('value = 1\n')
    yield 'watched_module'
    sys.modules.pop('watched_module', None)
    for finder in sys.meta_path:
        if isinstance(finder, import_hooks._ImportWatcher):
            finder.callbacks.pop('watched_module', None)


def test_callback_after_import_and_after_reload(module_file: str):
    seen = []
    import_hooks.when_imported(module_file, lambda module: seen.append(module.value))
    assert seen == []
    module = importlib.import_module(module_file)
    assert seen == [1]
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == 'SourceFileLoader'
    assert module.__loader__.get_source(module_file) == 'value = 1\n'
    importlib.reload(module)
    assert seen == [1, 1]


def test_callback_now_where_already_imported(module_file: str):
    importlib.import_module(module_file)
    seen = []
    import_hooks.when_imported(module_file, lambda module: seen.append(module.value))
    assert seen == [1]


def test_callback_of_a_missing_module_does_nothing():
    import_hooks.when_imported('no_such_module_anywhere', lambda module: pytest.fail('called'))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('no_such_module_anywhere')


def test_fallback_for_another_name(monkeypatch: pytest.MonkeyPatch):
    source = types.ModuleType('fallback_source')
    source.fill = lambda module: setattr(module, 'answer', 42)
    monkeypatch.setitem(sys.modules, 'fallback_source', source)
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    import_hooks.provide_when_missing('absent_module', 'fallback_source')
    import_hooks.provide_when_missing('absent_module', 'fallback_source')
    try:
        assert importlib.import_module('absent_module').answer == 42
    finally:
        sys.modules.pop('absent_module', None)
    assert sum(getattr(finder, 'fullname', None) == 'absent_module' for finder in sys.meta_path) == 1
