"""The configs of docs/plugin.md, in a folder outside the repository, on the hosts' own configs and with their tools."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tool_runner import forget_singletons

import mmlk  # noqa: F401
from mmlk.datasets.demo.ade20k import generate_ade20k
from mmlk.datasets.demo.coco import generate_coco
from mmlk.datasets.demo.imagenet import generate_imagenet

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'plugin.md'
BACKBONE = 'depths=(1, 1, 1, 1), init_cfg=None'
BODY = f'{BACKBONE}, base_channels=(8, 16, 32, 64), width_factor=1.0'
LOADER = 'batch_size=2, num_workers=0, persistent_workers=False'
#: Of each host: its config that stands for the user's own, what it is called on the page, and what makes it tiny.
HOSTS = {
    'mmseg': (
        'upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
        'upernet_r50.py',
        f"""
norm = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict({BODY}, kernel_size=(9, 9, 7, 7)),
    decode_head=dict(in_channels=[8, 16, 32, 64], channels=8, norm_cfg=norm),
    auxiliary_head=dict(in_channels=32, channels=8, norm_cfg=norm),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackSegInputs'),
]
train_dataloader = dict({LOADER}, dataset=dict(data_root=data_root, pipeline=pipeline))
train_cfg = dict(max_iters=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
""",
    ),
    'mmdet': (
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'mask_rcnn_r50.py',
        f"""
bbox_roi, mask_roi = dict(out_channels=8), dict(out_channels=8)
model = dict(
    backbone=dict({BODY}, kernel_size=(9, 9, 7, 7, 5)),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=bbox_roi,
        mask_roi_extractor=mask_roi,
        bbox_head=dict(in_channels=8, fc_out_channels=8, num_classes=6),
        mask_head=dict(in_channels=8, conv_out_channels=8, num_classes=6),
    ),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackDetInputs'),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=pipeline)
train_dataloader = dict({LOADER}, dataset=dataset)
train_cfg = dict(max_epochs=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
""",
    ),
    'mmpretrain': (
        'resnet/resnet50_8xb32_in1k.py',
        'resnet50.py',
        f"""
model = dict(
    backbone=dict({BACKBONE}, channels=(8, 16, 32, 64), kernel_size=(3, 7, 7, 7)),
    head=dict(in_channels=64),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=64),
    dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs'),
]
train_dataloader = dict({LOADER}, dataset=dict(data_root=data_root, pipeline=pipeline))
train_cfg = dict(max_epochs=1)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
""",
    ),
}


def blocks(host: str) -> list[str]:
    """The configs on the page."""
    found = re.findall(r'^```python\n(# (\w+)\n.*?)^```', PAGE.read_text(), re.M | re.S)
    return [text for text, name in found if name == host]


def package_of(host: str) -> Path:
    return Path(importlib.util.find_spec(host).origin).parent


@pytest.fixture(scope='module')
def projects(tmp_path_factory):
    """A project of one's own on each host: a config that exists, data, and the config of the page."""
    root = tmp_path_factory.mktemp('projects')
    sizes = dict(num_train=4, num_val=1, progress=False)
    data = {
        'mmseg': generate_ade20k(root / 'ade', size=96, **sizes),
        'mmdet': generate_coco(root / 'coco', size=96, **sizes),
        'mmpretrain': generate_imagenet(root / 'imagenet', num_train=4, num_val=1, size=96, progress=False),
    }
    for host, (source, name, tiny) in HOSTS.items():
        folder = root / host
        folder.mkdir()
        Config.fromfile(package_of(host) / '.mim' / 'configs' / source).dump(str(folder / name))
        (folder / 'mine.py').write_text(blocks(host)[0])
        values = f'_base_ = "./mine.py"\ndata_root = {str(data[host])!r}\n'
        values += 'val_dataloader = val_cfg = val_evaluator = test_dataloader = test_cfg = test_evaluator = None\n'
        if host == 'mmdet':
            names = json.loads((data[host] / 'annotations/instances_train2017.json').read_text())['categories']
            values += f'classes = {tuple(entry["name"] for entry in names)}\n'
        (folder / 'tiny.py').write_text(values + tiny)
    return root


def train_tool(host: str) -> Path:
    return package_of(host) / '.mim' / 'tools' / 'train.py'


def check_run(work_dir: Path) -> None:
    """Two iterations, a loss that is a number, a checkpoint with the network's own keys."""
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 2 and all(torch.isfinite(torch.tensor(losses)))
    checkpoint = Path((work_dir / 'last_checkpoint').read_text())
    from mmlk.compat.checkpoint_loader import load_checkpoint_file

    keys = load_checkpoint_file(checkpoint)['state_dict'].keys()
    assert any(key.startswith('backbone.stages.3.blocks.0.mixer.') for key in keys)


def test_the_page_has_a_config_for_every_host():
    for host, (_, name, _) in HOSTS.items():
        assert f"_base_ = './{name}'" in blocks(host)[0]


@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain'])
def test_trains_with_the_hosts_own_tool(host, projects, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(
        sys, 'argv', ['train.py', str(projects / host / 'tiny.py'), '--work-dir', str(tmp_path / 'run')]
    )
    # Two runs that begin in one second have one name, and MMEngine would give the second the scope of the first.
    forget_singletons()
    runpy.run_path(str(train_tool(host)), run_name='__main__')
    check_run(tmp_path / 'run')


def test_trains_in_a_process_that_knows_mmlk_from_the_config_alone(projects, tmp_path):
    command = [sys.executable, str(train_tool('mmseg')), str(projects / 'mmseg' / 'tiny.py'), '--work-dir', 'run']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    check_run(tmp_path / 'run')


@pytest.mark.parametrize('host', HOSTS)
def test_full_size_network_of_the_page(host, projects):
    """Channels and keywords of the page are right for the network as it is printed there."""
    from mmengine.registry import MODELS, init_default_scope

    importlib.import_module(f'{host}.models')
    init_default_scope(host)
    cfg = Config.fromfile(projects / host / 'mine.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        if host == 'mmpretrain':
            assert model.head.fc.in_features == model.backbone.channels[-1]
        elif host == 'mmdet':
            assert tuple(conv.conv.in_channels for conv in model.neck.lateral_convs) == model.backbone.channels
        else:
            assert tuple(model.decode_head.in_channels) == model.backbone.channels
            assert model.auxiliary_head.in_channels == model.backbone.channels[2]


def test_config_on_one_of_mmlk(tmp_path):
    (tmp_path / 'mine.py').write_text(blocks('mmseg')[1])
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert cfg.train_dataloader.dataset.data_root == 'data/mine' and cfg.model.backbone.type == 'mmlk.PeLK'


def test_script_with_mmlk_imported_first(tmp_path):
    (tmp_path / 'beside.py').write_text('value = 7\n')
    (tmp_path / 'script.py').write_text(
        "import sys, beside\nprint(__name__, sys.argv, 'mmlk' in sys.modules, beside.value)\n"
    )
    command = [sys.executable, '-m', 'mmlk', 'script.py', '--flag', 'x']
    environment = os.environ | {'PYTHONPATH': str(PAGE.parents[1])}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "__main__ ['script.py', '--flag', 'x'] True 7", result.stderr


@pytest.mark.parametrize(
    ('arguments', 'code', 'text'),
    [
        (['none.py'], 2, 'expected a Python script, found none at none.py'),
        ([], 2, 'usage: python -m mmlk SCRIPT'),
        (['--help'], 0, 'with mmlk imported before it'),
    ],
)
def test_script_usage(arguments, code, text, monkeypatch, capsys):
    from mmlk import __main__

    monkeypatch.setattr(sys, 'argv', ['mmlk', *arguments])
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == code
    out = capsys.readouterr()
    assert text in (out.err if code else out.out)
