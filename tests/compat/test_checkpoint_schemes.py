"""Every kind of checkpoint address of mmengine ends in the safe loader, and mmengine resumes its own checkpoints."""

import json
import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint

from mmlk.compat import checkpoint_schemes
from mmlk.compat.checkpoint_loader import CheckpointError, CheckpointNotFoundError, UnsafeCheckpointError

WEIGHTS = {'state_dict': {'backbone.weight': torch.ones(2), 'head.weight': torch.zeros(1)}}


class Payload:
    """Pickles as a shell command."""

    def __reduce__(self) -> tuple:
        return os.system, ('touch executed',)


@pytest.fixture
def benign(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / 'benign.pth')
    return tmp_path / 'benign.pth'


@pytest.fixture
def hostile(tmp_path: Path, write_archive, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield write_archive(tmp_path / 'hostile.pth', pickle.dumps(Payload(), 2))
    assert not (tmp_path / 'executed').exists()


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Downloads come from a file of this machine; ``asked`` lists the addresses."""
    state = types.SimpleNamespace(file=None, asked=[], error=None)

    def download(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
        state.asked.append(url)
        if state.error is not None:
            raise state.error
        shutil.copy(state.file, dst)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch_home'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine_home'))
    (tmp_path / 'mmengine_home').mkdir()
    return state


def load(address: str, map_location: str | None = None) -> dict:
    return CheckpointLoader.load_checkpoint(address, map_location, logger=None)


def test_every_scheme_is_ours():
    loaders = CheckpointLoader._schemes
    assert {'', 'http://', 'https://', 'torchvision://', 'openmmlab://', 'mmcls://', 'pavi://'} <= loaders.keys()
    assert {loader.__module__ for loader in loaders.values()} == {checkpoint_schemes.__name__}
    assert all(loader.__name__.startswith('load_from_') for loader in loaders.values())


@pytest.mark.parametrize('first', ['mmlk.compat.checkpoint_schemes', 'mmengine.runner', 'mmengine.runner.checkpoint'])
def test_any_order_of_imports(first: str, run_python):
    output = run_python(f"""
import mmlk, {first}
from mmengine.runner import CheckpointLoader
print(*{{loader.__module__ for loader in CheckpointLoader._schemes.values()}})
""")
    assert output.split() == ['mmlk.compat.checkpoint_schemes']


def test_local_file(benign: Path):
    assert load(str(benign))['state_dict']['backbone.weight'].tolist() == [1, 1]
    assert load(str(benign), 'meta')['state_dict']['backbone.weight'].device.type == 'meta'


def test_http_downloads_once(benign: Path, internet: types.SimpleNamespace, tmp_path: Path):
    internet.file = benign
    for _ in range(2):
        assert (
            load('https://example.org/a/weights-1234.pth?token=1')['state_dict'].keys() == WEIGHTS['state_dict'].keys()
        )
    assert internet.asked == ['https://example.org/a/weights-1234.pth?token=1']
    assert (tmp_path / 'torch_home/hub/checkpoints/weights-1234.pth').is_file()


def addresses_by_scheme() -> dict[str, str]:
    from mmengine.runner import checkpoint

    return {
        'http://example.org/x.pth': 'http://example.org/x.pth',
        'torchvision://resnet18': checkpoint.get_torchvision_models()['resnet18'],
        'modelzoo://resnet50': checkpoint.get_torchvision_models()['resnet50'],
        'openmmlab://resnext50_32x4d': checkpoint.get_external_models()['resnext50_32x4d'],
        'open-mmlab://vgg16_caffe': checkpoint.get_external_models()['vgg16_caffe'],
        'mmcls://vgg11': checkpoint.get_mmcls_models()['vgg11'],
    }


@pytest.mark.parametrize('index', range(6))
def test_names_are_resolved_and_loaded(index: int, benign: Path, internet: types.SimpleNamespace):
    address, url = list(addresses_by_scheme().items())[index]
    internet.file = benign
    keys = {'weight'} if address.startswith('mmcls') else WEIGHTS['state_dict'].keys()
    assert load(address)['state_dict'].keys() == keys
    assert internet.asked == [url]


@pytest.mark.parametrize('index', range(6))
def test_hostile_download_is_refused(index: int, hostile: Path, internet: types.SimpleNamespace):
    address, url = list(addresses_by_scheme().items())[index]
    internet.file = hostile
    with pytest.raises(UnsafeCheckpointError, match='posix.system') as caught:
        load_checkpoint(torch.nn.Linear(1, 1), address)
    assert url.rpartition('/')[2] in str(caught.value)


def test_deprecated_name(benign: Path, internet: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    from mmengine.runner import checkpoint

    monkeypatch.setattr(checkpoint, 'get_deprecated_model_names', lambda: {'old': 'vgg16_caffe'})
    internet.file = benign
    load('openmmlab://old')
    assert internet.asked == [checkpoint.get_external_models()['vgg16_caffe']]


def test_users_own_names(benign: Path, internet: types.SimpleNamespace, tmp_path: Path):
    """mmengine reads further names from a file in its home; they may point to files beside it."""
    home = tmp_path / 'mmengine_home'
    (home / 'open_mmlab.json').write_text(json.dumps({'mine': 'mine.pth', 'gone': 'gone.pth'}))
    shutil.copy(benign, home / 'mine.pth')
    assert 'state_dict' in load('openmmlab://mine')
    with pytest.raises(CheckpointNotFoundError, match='gone.pth does not exist'):
        load('openmmlab://gone')


@pytest.mark.parametrize('address', ['torchvision://resnet17', 'openmmlab://vgg16_cafe', 'mmcls://vgg10'])
def test_unknown_name(address: str, internet: types.SimpleNamespace):
    scheme = address.partition('://')[0]
    with pytest.raises(CheckpointNotFoundError, match=f'{address} is not a known checkpoint.*nearest: {scheme}://'):
        load(address)


@pytest.mark.parametrize('error', [URLError('no route'), TimeoutError('timed out'), ConnectionResetError('reset')])
def test_failed_download(error: Exception, internet: types.SimpleNamespace, tmp_path: Path):
    internet.error = error
    with pytest.raises(CheckpointError, match='https://example.org/x.pth could not be downloaded.*check the address'):
        load('https://example.org/x.pth')
    assert not list((tmp_path / 'torch_home').rglob('*.pth'))


@pytest.mark.parametrize('shared_disk', [True, False])
def test_other_processes_wait_for_the_first(
    shared_disk: bool, benign: Path, internet: types.SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    internet.file, cached = benign, tmp_path / 'torch_home/hub/checkpoints/x.pth'

    def barrier() -> None:
        assert internet.asked == []
        if shared_disk:
            cached.parent.mkdir(parents=True)
            shutil.copy(benign, cached)

    monkeypatch.setattr(checkpoint_schemes, 'get_rank', lambda: 1)
    monkeypatch.setattr(checkpoint_schemes, 'barrier', barrier)
    assert 'state_dict' in load('https://example.org/x.pth')
    assert internet.asked == ([] if shared_disk else ['https://example.org/x.pth'])


def test_first_process_frees_the_others_when_it_fails(internet: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    internet.error, freed = URLError('no route'), []
    monkeypatch.setattr(checkpoint_schemes, 'barrier', lambda: freed.append(True))
    with pytest.raises(CheckpointError):
        load('https://example.org/x.pth')
    assert freed == [True]


@pytest.mark.parametrize('address', ['s3://bucket/x.pth', 'cluster:s3://bucket/x.pth', 'petrel://bucket/x.pth'])
def test_object_store(address: str, benign: Path, hostile: Path, monkeypatch: pytest.MonkeyPatch):
    files = iter([benign, hostile])
    backend = types.SimpleNamespace(get=lambda filename: next(files).read_bytes())
    monkeypatch.setattr(checkpoint_schemes, 'get_file_backend', lambda filename, backend_args: backend)
    assert 'state_dict' in load(address)
    with pytest.raises(UnsafeCheckpointError, match=r'x\.pth.*posix.system'):
        load(address)


def test_pavi(benign: Path, hostile: Path, monkeypatch: pytest.MonkeyPatch):
    files = iter([benign, hostile])
    model = types.SimpleNamespace(name='x.pth', download=lambda target: shutil.copy(next(files), target))
    cloud = types.SimpleNamespace(get=lambda path: model if path == 'team/x' else None)
    monkeypatch.setitem(sys.modules, 'pavi', types.SimpleNamespace(modelcloud=cloud))
    assert 'state_dict' in load('pavi://team/x')
    with pytest.raises(UnsafeCheckpointError, match=r'x\.pth.*posix.system'):
        load('pavi://team/x')


class Regression(BaseModel):
    """One linear layer and its squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.steps = 0

    def forward(self, inputs: list[torch.Tensor], mode: str = 'tensor') -> dict | torch.Tensor:
        output = self.layer(torch.stack(inputs))
        self.steps += mode == 'loss'
        return dict(loss=output.square().mean()) if mode == 'loss' else output


class Rows(torch.utils.data.Dataset):
    """As many rows as the six iterations take: mmengine sleeps before it starts over."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([float(index), 1.0]))


@pytest.fixture
def make_runner(tmp_path: Path) -> Callable[..., Runner]:
    def make(name: str, **options: object) -> Runner:
        return Runner(
            model=Regression(),
            work_dir=str(tmp_path / 'work'),
            train_dataloader=dict(batch_size=2, dataset=Rows(), sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(by_epoch=False, max_iters=6),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=[
                dict(type='MultiStepLR', milestones=[2, 5], gamma=0.1, by_epoch=False),
                dict(type='LinearLR', start_factor=0.5, end=3, by_epoch=False),
            ],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)),
            log_level='WARNING',
            experiment_name=name,
            **options,
        )

    return make


def test_runner_resumes_its_checkpoint(make_runner: Callable[..., Runner], tmp_path: Path):
    torch.manual_seed(0)
    whole = make_runner('whole')
    whole.train()
    path = tmp_path / 'work' / 'iter_3.pth'
    with pytest.raises(pickle.UnpicklingError):  # what torch's own default makes of it
        torch.load(path)

    resumed = make_runner('resumed', resume=True, load_from=str(path))
    saved = CheckpointLoader.load_checkpoint(str(path), 'cpu', logger=None)
    assert saved['message_hub']['log_scalars']['train/loss'].data[0].shape == (3,)
    assert saved['param_schedulers'][0]['milestones'] == {2: 1, 5: 1}
    resumed.train()
    assert resumed.iter == 6 and resumed.model.steps == 3
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    moments = [list(runner.optim_wrapper.optimizer.state.values()) for runner in (whole, resumed)]
    for left, right in zip(*moments, strict=True):
        assert left['step'] == right['step'] == 6 and torch.equal(left['exp_avg_sq'], right['exp_avg_sq'])
    histories = [runner.message_hub.get_scalar('train/loss').data[0] for runner in (whole, resumed)]
    assert histories[0].tolist() == histories[1].tolist() and len(histories[0]) == 6

    loaded = make_runner('loaded', load_from=str(path))
    loaded.load_or_resume()
    assert loaded.iter == 0
    assert torch.equal(loaded.model.layer.weight, saved['state_dict']['layer.weight'])
