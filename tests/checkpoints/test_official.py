"""The table of the authors' files: names that can be, and instructions that work when followed to the letter."""

import re
import shlex

import pytest
import torch
from mmengine.registry import MODELS
from tool_runner import run_tool

import mmlk  # noqa: F401
from mmlk.checkpoints.convert import revert
from mmlk.checkpoints.families import FAMILIES
from mmlk.checkpoints.fit import missing_weights_message
from mmlk.checkpoints.official import OFFICIAL_FILES, UNNAMED
from mmlk.errors import UsageError


@pytest.mark.parametrize('name', OFFICIAL_FILES)
def test_family_and_arch_exist(name):
    entry = OFFICIAL_FILES[name]
    assert entry.arch in FAMILIES[entry.family].archs
    # <network>_<size>: that of the arch, without the version of SW v2.
    assert name.startswith(f'{entry.family}_{entry.arch.removeprefix("v2_")}')
    assert entry.source.startswith('https://')
    assert entry.file.endswith('.pth')


def test_no_file_serves_two_names():
    named = [entry.file for entry in OFFICIAL_FILES.values() if entry.file != UNNAMED]
    unnamed = [entry.source for entry in OFFICIAL_FILES.values() if entry.file == UNNAMED]
    assert len(set(named)) == len(named)
    assert len(set(unnamed)) == len(unnamed)


def test_every_config_that_starts_from_weights_has_a_way_to_get_them(repository):
    """An official file, or a config that trains them."""
    texts = [path.read_text() for path in repository.glob('configs/*/*.py')]
    checkpoints = {name for text in texts for name in re.findall(r'checkpoints/\w+\.pth', text)}
    assert {'checkpoints/pelk_t.pth', 'checkpoints/replknet_xl.pth'} < checkpoints
    for checkpoint in checkpoints:
        message = missing_weights_message(checkpoint)
        assert 'convert_checkpoint.py' in message or 'train them with configs/imagenet/' in message


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        (
            'replknet_31b',
            [
                'fetch RepLKNet-31B_ImageNet-1K_224.pth from https://drive.google.com/file/d/1azQUiCxK9feYVkkrPqwVPBtNsTzDrX7S',
                '`python tools/convert_checkpoint.py RepLKNet-31B_ImageNet-1K_224.pth checkpoints/replknet_31b.pth '
                '--family replknet --arch 31b`',
            ],
        ),
        (
            'shiftwise_t',
            [
                '/1U4DOZv5V9_7wJdqdicjp0tCmNIdRNJOc/view as DOWNLOADED.pth and run ',
                '`python tools/convert_checkpoint.py DOWNLOADED.pth checkpoints/shiftwise_t.pth --family shiftwise '
                '--arch v2_t`',
            ],
        ),
        ('slak_b', ['SLaK_base_checkpoint.pth', '--family slak --arch b`']),
        ('unireplknet_xl_in21k_384', ['unireplknet_xl_in22k_to_in1k_384_acc87.96.pth from https://', '--arch xl`']),
    ],
)  # fmt: skip
def test_message(name, parts):
    message = missing_weights_message(f'checkpoints/{name}.pth')
    assert message.startswith(f'pretrained weights expected at checkpoints/{name}.pth, found no such file: fetch ')
    assert message.endswith('or start from random weights with --cfg-options model.backbone.init_cfg=None')
    for part in parts:
        assert part in message


def test_following_the_message_gives_the_weights(tmp_path, monkeypatch):
    """With a file such as the authors publish, here of random weights."""
    entry = OFFICIAL_FILES['unireplknet_a']
    source = MODELS.build(dict(type='mmlk.UniRepLKNet', arch=entry.arch, final_norm=True))
    state = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    state |= {'head.fc.weight': torch.zeros(1000, 320), 'head.fc.bias': torch.zeros(1000)}
    monkeypatch.chdir(tmp_path)
    torch.save(revert({'state_dict': state}, entry.family, entry.arch, 'random').checkpoint('random'), entry.file)

    checkpoint = 'checkpoints/unireplknet_a.pth'
    net = MODELS.build(dict(type='mmlk.UniRepLKNet', arch='a', init_cfg=dict(type='Pretrained', checkpoint=checkpoint)))
    with pytest.raises(UsageError) as error:
        net.init_weights()
    (command,) = [part for part in str(error.value).split('`') if part.startswith('python ')]
    python, tool, *arguments = shlex.split(command)
    assert (python, tool) == ('python', 'tools/convert_checkpoint.py')
    result = run_tool('convert_checkpoint.py', *arguments)
    assert result.code == 0, result.err
    net.init_weights()
    assert torch.equal(net.stages[2].blocks[5].ffn.fc1.weight, source.stages[2].blocks[5].ffn.fc1.weight)
