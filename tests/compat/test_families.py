"""Which family is installed is told from the metadata of distributions, made up here."""

import sys
from pathlib import Path

import pytest

from mmlk.compat import families
from mmlk.compat.families import Family, Package, describe, detect

UPSTREAM = {
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'mmpretrain': '1.2.0',
}
ONEDL = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl_mmsegmentation': '1.4.2',  # spelled as some tools write it
    'onedl-mmpretrain': '1.3.6',
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make the given distributions the only ones there are."""
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])

    def write(versions: dict[str, str]) -> None:
        for name, version in versions.items():
            folder = tmp_path / f'{name.replace("-", "_")}-{version}.dist-info'
            folder.mkdir()
            (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')

    return write


def test_upstream(install):
    install({**UPSTREAM, 'torch': '2.11.0'})
    family = detect()
    assert family.name == 'upstream' and family.notes == () and not family.compiled_ops
    assert family.packages[1] == Package('mmcv', 'mmcv-lite', '2.1.0', 'upstream')
    assert describe(family) == [
        'mmengine: mmengine 0.10.7 (upstream)',
        'mmcv: mmcv-lite 2.1.0 (upstream, fallback operators of mmlk)',
        'mmdet: mmdet 3.3.0 (upstream)',
        'mmseg: mmsegmentation 1.2.2 (upstream)',
        'mmpretrain: mmpretrain 1.2.0 (upstream)',
    ]


def test_onedl(install):
    install(ONEDL)
    family = detect()
    assert family.name == 'onedl' and family.notes == ()
    assert [package.import_name for package in family.packages] == ['mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain']
    assert describe(family)[3] == 'mmseg: onedl-mmsegmentation 1.4.2 (onedl)'


def test_nothing(install):
    family = detect()
    assert family == Family('none', (), False, ())
    assert describe(family) == [
        f'{name}: not installed' for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
    ]


def test_both_families_overwrite_each_other(install):
    install({**UPSTREAM, **ONEDL})
    family = detect()
    assert family.name == 'mixed' and len(family.packages) == 10 and len(family.notes) == 5
    assert family.notes[2] == (
        'mmdet is installed by mmdet and onedl-mmdetection, which overwrite files of one another: uninstall all of '
        'them and install one again'
    )
    assert describe(family)[-5:] == list(family.notes)


def test_families_side_by_side(install):
    install({'mmengine': '0.10.7', 'onedl-mmcv': '2.3.6'})
    family = detect()
    assert family.name == 'mixed'
    assert family.notes[0].startswith('packages of both families are installed')


def test_two_mmcv_of_one_family(install):
    install({**UPSTREAM, 'mmcv': '2.1.0'})
    family = detect()
    assert family.name == 'upstream'
    assert family.notes[0].startswith('mmcv is installed by mmcv and mmcv-lite, which overwrite')


def test_compiled_operators(install, tmp_path: Path):
    install(UPSTREAM)
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').touch()
    assert not detect().compiled_ops
    (tmp_path / 'mmcv/_ext.py').touch()
    family = detect()
    assert family.compiled_ops
    assert describe(family)[1] == 'mmcv: mmcv-lite 2.1.0 (upstream, compiled operators)'


def test_detection_imports_none_of_them(run_python):
    output = run_python("""
import sys
from mmlk.compat import families
families.describe()
print([name for name in sys.modules if name.split('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg')])
""")
    assert output.strip() == '[]'


def test_what_is_installed_here():
    family = detect()
    assert family.name in ('upstream', 'onedl') and {package.import_name for package in family.packages} == {
        *families._PROVIDERS
    }
    import mmengine

    assert family.packages[0].version == mmengine.__version__
