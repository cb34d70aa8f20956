"""Every known-bad combination is found, named, and told apart from a healthy environment."""

import sys

import pytest

from mmlk.diagnosis import rules
from mmlk.diagnosis.facts import Finding
from mmlk.diagnosis.probes import Step
from mmlk.diagnosis.rules import judge

NO_HOSTS = dict.fromkeys(['mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'mmpretrain'])


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch):
    """The environment that runs the tests is not what is judged."""
    for name in ('VIRTUAL_ENV', 'CONDA_PREFIX'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rules, 'importable', lambda name: True)


def find(facts, problem: bool = True) -> list[Finding]:
    found = judge(facts)
    assert not any('could not be applied' in finding.what for finding in found), found
    return [finding for finding in found if finding.problem is problem]


def the_problem(facts) -> Finding:
    (found,) = find(facts)
    assert found.cure
    return found


def failed(name: str, error: str) -> dict[str, Step]:
    return {name: Step(name, False, error)}


def test_the_locked_environment_is_healthy(facts):
    assert find(facts()) == []
    (note,) = find(facts(), problem=False)
    assert 'OverflowError in ColorJitter(hue=...) with NumPy 2.4.6' in note.what


@pytest.mark.parametrize(
    'versions, what, cure',
    [
        ({'mmcv': '2.1.0'}, 'mmcv is installed by mmcv and mmcv-lite', 'uninstall all of them'),
        (
            {'onedl-mmengine': '0.10.12'},
            'mmengine is installed by mmengine and onedl-mmengine',
            'uninstall all of them',
        ),
        ({'mmdet': None, 'onedl-mmdetection': '3.5.1'}, 'packages of both families are installed', 'use either'),
        ({'mmcv-lite': '2.2.0'}, 'mmcv-lite 2.2.0 is refused by mmdet and mmsegmentation', 'mmcv-lite>=2.1.0,<2.2.0'),
        ({'mmcv-lite': None, 'mmcv': '2.2.0'}, 'mmcv 2.2.0 is refused by mmdet', 'pip uninstall mmcv'),
        ({'mmcv-lite': None, 'mmcv': '1.7.2'}, 'mmcv 1.7.2 is too old, mmlk needs 2.0.0', 'pip install -U'),
        ({'torch': '2.5.1', 'torchvision': '0.20.1'}, 'torch 2.5.1 is too old, mmlk needs 2.6', 'torch>=2.6'),
        ({'torchvision': '0.25.0'}, 'torchvision 0.25.0 does not belong to torch 2.11.0', 'torchvision==0.26.*'),
        (
            {'ftfy': None, 'regex': None},
            'mmsegmentation needs ftfy and regex without declaring',
            'pip install ftfy regex',
        ),
        (
            {'numpy': '2.4.6', 'opencv-python-headless': '4.9.0.80'},
            'compiled for NumPy 1, and this is NumPy 2',
            '"numpy<2"',
        ),
        (
            {'opencv-python': '4.12.0.88'},
            'opencv-python-headless and opencv-python are installed',
            'uninstall -y opencv',
        ),
        ({'timm': None}, 'timm is not installed, the networks of mmlk need it', 'pip install timm'),
        ({'mmcv-lite': None}, 'mmcv is not installed, the hosts need it', 'pip install mmcv-lite'),
    ],
    ids=lambda value: None if isinstance(value, str) else '-'.join(value),
)
def test_versions(facts, versions, what, cure):
    found = find(facts(versions))
    assert any(what in finding.what and cure in finding.cure for finding in found), found
    # An old torch has an old torchvision beside it, a new name of a family an old one.
    assert len(found) <= 2


def test_versions_that_belong_together(facts):
    assert find(facts({'torch': '2.6.0+cpu', 'torchvision': '0.21.0+cpu'})) == []
    # The same files, but for the graphics.
    assert find(facts({'opencv-python': '5.0.0.93'})) == []
    assert find(facts({'numpy': '1.26.4'})) == [] and find(facts({'numpy': '1.26.4'}), problem=False) == []


def test_the_other_family(facts):
    onedl = {
        'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1',
        'onedl-mmsegmentation': '1.4.2', 'onedl-mmpretrain': '1.3.6',
    }  # fmt: skip
    assert find(facts(NO_HOSTS | onedl)) == []
    without = {name: version for name, version in onedl.items() if name != 'onedl-mmcv'}
    steps = failed('mmdet', "ImportError: no <- ModuleNotFoundError: No module named 'mmcv'")
    assert the_problem(facts(NO_HOSTS | without, steps)).cure == 'pip install onedl-mmcv'
    without = {name: version for name, version in onedl.items() if name != 'onedl-mmdetection'}
    assert find(facts(NO_HOSTS | without), problem=False)[0].cure == 'pip install onedl-mmdetection'


def test_python(facts):
    assert the_problem(facts(python=(3, 9))).what == 'Python 3.9 is too old for mmlk'
    assert find(facts(python=(3, 14))) == []
    assert find(facts(python=(3, 14)), problem=False)[0].what == 'Python 3.14 is not tested, 3.11 and 3.12 are'


def test_without_torch(facts):
    steps = failed('torch', "ModuleNotFoundError: No module named 'torch'")
    for name in ('torchvision', 'ops', 'mmseg'):
        steps |= failed(name, "ModuleNotFoundError: No module named 'torch'")
    found = the_problem(facts({'torch': None}, steps))
    assert found.what == f'torch is not installed for {sys.executable}' and 'quickstart.sh' in found.cure


def test_without_hosts_the_operators_are_left(facts):
    steps = {name: Step(name, False, f"ModuleNotFoundError: No module named '{name}'") for name in ('mmseg', 'mmcv')}
    steps |= failed('mmlk', "ModuleNotFoundError: No module named 'mmengine'")
    bare = facts(NO_HOSTS | {'timm': None, 'setuptools': None}, steps)
    assert find(bare) == []
    assert 'mmlk.ops and mmlk.accelerate work, configs and networks do not' in find(bare, problem=False)[0].what
    one = facts({'mmdet': None}, failed('mmdet', "ModuleNotFoundError: No module named 'mmdet'"))
    assert find(one) == [] and find(one, problem=False)[0].cure == 'pip install mmdet'


def test_pkg_resources(facts, monkeypatch):
    assert 'warns of pkg_resources' in find(facts({'setuptools': '81.0.0'}), problem=False)[0].what
    monkeypatch.setattr(rules, 'importable', lambda name: name != 'pkg_resources')
    found = the_problem(facts({'setuptools': '82.0.1'}))
    assert 'setuptools 82.0.1 has none any more' in found.what and found.cure == 'pip install "setuptools<81"'
    assert 'setuptools is not installed' in the_problem(facts({'setuptools': None})).what


@pytest.mark.parametrize(
    'name, error, what, cure',
    [
        (
            'torchvision',
            'RuntimeError: operator torchvision::nms does not exist',
            'built for different versions or devices',
            'both from one source',
        ),
        (
            'cv2',
            'ImportError: libGL.so.1: cannot open shared object file',
            'graphics libraries',
            'opencv-python-headless',
        ),
        ('cv2', 'AttributeError: _ARRAY_API not found', 'compiled for NumPy 1 and this is NumPy 2', '"numpy<2"'),
        (
            'mmcv',
            'ImportError: /x/mmcv/_ext.so: undefined symbol: _ZN',
            'built for another torch',
            'pip install mmcv-lite',
        ),
        ('mmdet', 'AssertionError: MMCV==2.2.0 is used but incompatible', 'too new for this host', 'mmcv-lite>=2.1.0'),
        (
            'mmdet',
            "ModuleNotFoundError: No module named 'pycocotools'",
            'pycocotools is not installed',
            'pip install pycoco',
        ),
        ('numpy', 'the process was killed by SIGILL: Fatal', 'compiled for a newer processor', 'install a build'),
        ('mmseg', 'ValueError: something new', 'mmseg fails: ValueError: something new', 'reinstall mmseg'),
    ],
)
def test_imports_that_fail(facts, name, error, what, cure):
    found = the_problem(facts(steps=failed(name, error)))
    assert what in found.what and cure in found.cure


def test_a_missing_module_is_installed_under_the_name_of_its_distribution(facts):
    steps = failed('mmcv', "ModuleNotFoundError: No module named 'cv2'")
    assert the_problem(facts(steps=steps)).cure == 'pip install opencv-python-headless'
    # Its record is there, its files are gone.
    steps = failed('mmdet', "ModuleNotFoundError: No module named 'mmcv.ops'")
    assert the_problem(facts(steps=steps)).cure == 'pip install mmcv-lite'


def test_one_root_is_one_problem(facts):
    root = 'RuntimeError: operator torchvision::nms does not exist'
    steps = failed('torchvision', root) | failed('mmdet', root) | failed('mmseg', f'ImportError: no <- {root}')
    assert the_problem(facts(steps=steps)).what.startswith('torchvision fails')


def test_wrong_results(facts):
    steps = {'numpy': Step('numpy', True, facts={'works': False})}
    assert the_problem(facts(steps=steps)).what == 'numpy can be imported but computes wrongly'
    for error in (0.1, float('nan')):
        steps = {'ops': Step('ops', True, facts={'error': {'cpu': 1e-7, 'cuda': error}})}
        assert the_problem(facts(steps=steps)).what.startswith('depthwise_conv2d on cuda is off by')


class TestGpu:
    DRIVER = {'version': '550.54', 'cuda': '12.4', 'gpus': ['NVIDIA L4']}
    DEVICE = {'name': 'NVIDIA L4', 'capability': [8, 9], 'memory_gib': 22.0}

    def test_old_driver(self, facts):
        found = the_problem(facts(driver=self.DRIVER))
        assert 'torch is built for CUDA 13.0 and cannot use the GPU (NVIDIA L4); the driver 550.54' in found.what
        assert 'CUDA 12.4 or older' in found.cure

    def test_torch_without_cuda(self, facts, torch_step):
        found = the_problem(facts(steps=torch_step(cuda_build=None, version='2.11.0+cpu'), driver=self.DRIVER))
        assert 'torch 2.11.0+cpu is built without CUDA, and there is a GPU' in found.what

    def test_hidden_on_purpose(self, facts):
        hidden = facts(driver=self.DRIVER, variables={'CUDA_VISIBLE_DEVICES': ''})
        assert find(hidden) == [] and 'hides the GPUs (NVIDIA L4)' in find(hidden, problem=False)[0].what

    def test_driver_fails(self, facts):
        assert 'nvidia-smi fails: no devices' in the_problem(facts(driver={'error': 'no devices'})).what

    @pytest.mark.parametrize(
        'capability, codes, fits',
        [
            ([8, 9], ['sm_80', 'sm_90'], True),
            ([12, 0], ['sm_80', 'sm_90'], False),
            ([12, 0], ['sm_80', 'compute_90'], True),
            ([9, 0], ['sm_90a'], True),
            ([7, 0], ['sm_75', 'sm_80'], False),
        ],
    )
    def test_code_for_this_gpu(self, facts, torch_step, capability, codes, fits):
        device = self.DEVICE | {'capability': capability}
        steps = torch_step(cuda_available=True, gpus=[device], arch_list=codes, gpu_works=True)
        found = find(facts(steps=steps, driver=self.DRIVER))
        assert len(found) == (not fits) and all('has no code for NVIDIA L4' in finding.what for finding in found)

    def test_older_than_the_triton_kernels(self, facts, torch_step):
        device = self.DEVICE | {'capability': [7, 5]}
        steps = torch_step(cuda_available=True, gpus=[device], arch_list=['sm_75'], gpu_works=True)
        old = facts(steps=steps, driver=self.DRIVER)
        assert find(old) == [] and 'the Triton kernels need 8.0' in find(old, problem=False)[0].what

    def test_wrong_results(self, facts, torch_step):
        steps = torch_step(cuda_available=True, gpus=[self.DEVICE], arch_list=['sm_89'], gpu_works=False)
        assert the_problem(facts(steps=steps, driver=self.DRIVER)).what == 'the GPU computes wrongly'


@pytest.mark.parametrize(
    'machine, problem, what, cure',
    [
        (
            {'compilers': {'C': None, 'C++': None}, 'headers': False},
            False,
            'no C compiler and no C++ compiler and',
            'apt',
        ),
        ({'cores': 64, 'usable_cores': 1.5}, False, 'torch uses 2 threads on 1.5 usable of 64', 'OMP_NUM_THREADS=1'),
        ({'disk_gib': {'/data': 0.2}}, True, '/data has 0.2 GiB left', 'free'),
        ({'memory_gib': (0.5, 16.0)}, False, '0.5 GiB of memory are free', 'smaller batch'),
        ({'shm_gib': 0.06}, False, '/dev/shm has 0.06 GiB free', '--shm-size=2g'),
        ({'variables': {'TRITON_INTERPRET': '1'}}, False, 'TRITON_INTERPRET=1', 'unset'),
        ({'variables': {'PYTHONPATH': '/x'}}, False, 'PYTHONPATH=/x', 'unset'),
    ],
)
def test_machine(facts, machine, problem, what, cure):
    found = find(facts(**machine), problem)
    assert any(what in finding.what and cure in finding.cure for finding in found), found
    assert problem or find(facts(**machine)) == []


def test_unknown_machine(facts):
    assert find(facts(memory_gib=None, shm_gib=None, disk_gib={})) == []


def test_another_environment_is_activated(facts, monkeypatch, tmp_path):
    monkeypatch.setenv('VIRTUAL_ENV', str(tmp_path))
    assert f'{tmp_path} is activated, but this is {sys.executable}' in [f.what for f in find(facts(), problem=False)]


def test_a_rule_that_fails_does_not_hide_the_others(facts):
    broken = Step('torch', True, facts={})
    found = judge(facts({'torchvision': '0.25.0'}, {'torch': broken}))
    assert 'does not belong to torch' in found[0].what
    assert any('the rule gpu could not be applied (KeyError' in finding.what for finding in found)
