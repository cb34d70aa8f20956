"""tools/draw_sparsity.py on checkpoints with masks, with zeros, and with neither."""

import cv2
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from tool_runner import run_tool

from mmlk.cli.config import read_config
from mmlk.cli.draw_sparsity import choose_patterns, layer_rows, read_sparsity
from mmlk.errors import UsageError
from mmlk.sparsity import SparseTraining, find_path_groups, select_parameters

TINY = ('model.backbone.depths=(1,1,1,1)', 'model.backbone.width_factor=0.1', 'model.head.in_channels=76')


@pytest.fixture(autouse=True)
def in_repository(monkeypatch, repository):
    monkeypatch.chdir(repository)


@pytest.fixture
def classifier():
    cfg = read_config('configs/imagenet/slak_t.py')
    init_default_scope('mmpretrain')
    cfg.model.backbone.update(depths=(1, 1, 1, 1), width_factor=0.1)
    cfg.model.head.in_channels = 76
    parts = {name: part for name, part in cfg.model.items() if name not in ('data_preprocessor', 'train_cfg')}
    return MODELS.build(parts)


def trained(model) -> dict:
    """A checkpoint as the hook leaves it."""
    parameters = select_parameters(model)
    training = SparseTraining(parameters, share=find_path_groups(model, parameters))
    training.init_random(training.densities('uniform', 0.4))
    return {'state_dict': model.state_dict(), 'dynamic_sparsity': training.state_dict()}


def test_masks_with_a_config(classifier, tmp_path):
    path, out = tmp_path / 'epoch_1.pth', tmp_path / 'new' / 'sparsity.png'
    torch.save(trained(classifier), path)
    arguments = ('--config', 'configs/imagenet/slak_t.py', '--image-size', '64', '--cfg-options', *TINY)
    result = run_tool('draw_sparsity.py', path, '--out', out, *arguments)
    assert result.code == 0, result.err
    assert 'masks of the checkpoint' in result.out
    assert '60.00% kept' in result.out.replace('59.99', '60.00')
    total = sum(p.numel() for p in classifier.parameters())
    assert f'M not zero of {total / 1e6:.2f} M' in result.out
    assert 'MACs at 64 x 64' in result.out
    picture = cv2.imread(str(out))
    # Density, and below it the pattern of the large kernels of stage 1.
    assert picture.shape[0] > 700
    assert [file.name for file in out.parent.iterdir()] == ['sparsity.png']


def test_one_sentence(tmp_path):
    path = tmp_path / 'bad.pth'
    torch.save({'state_dict': {'backbone.norm.weight': torch.ones(3)}}, path)
    assert run_tool('draw_sparsity.py', path, '--out', tmp_path / 'a.png').error == (
        f'{path} must hold weights with two or four axes, found none among 1 entries'
    )


def test_zeros_of_plain_weights(tmp_path):
    weight = torch.randn(6, 1, 9, 3)
    weight[:3] = 0
    state = {
        'stages.0.blocks.0.mixer.vertical_weight': weight,
        'stages.0.blocks.0.ffn.fc1.weight': torch.ones(4, 6),
        'stages.0.blocks.0.ffn.grn.weight': torch.zeros(1, 1, 1, 8),
        'decode_head.conv.weight': torch.ones(2, 2, 1, 1),
        'stages.0.blocks.0.index': torch.zeros(2, 2, dtype=torch.long),
    }
    sparsity = read_sparsity({'model': state, 'epoch': 3}, tmp_path)
    assert sparsity.source == 'zeros of the weights'
    assert sparsity.densities == {
        'stages.0.blocks.0.mixer.vertical_weight': 0.5,
        'stages.0.blocks.0.ffn.fc1.weight': 1.0,
    }
    assert list(choose_patterns(sparsity, None)) == ['stages.0.blocks.0.mixer.vertical_weight']
    assert list(choose_patterns(sparsity, 'ffn')) == ['stages.0.blocks.0.ffn.fc1.weight']
    assert layer_rows(sparsity)[-1] == ('all 2 layers', ' 56.45% kept, 105 of 186')
    with pytest.raises(UsageError, match='--pattern-of head is part of no layer; layers are stages.0'):
        choose_patterns(sparsity, 'head')


def test_masks_that_do_not_fit(tmp_path):
    state = {'a.weight': torch.ones(4, 1, 3, 3), 'b.weight': torch.ones(2, 2)}
    masks = {'a.weight': torch.tensor([True, False, True, True]).view(4, 1, 1, 1)}
    found = read_sparsity({'state_dict': state, 'dynamic_sparsity': {'masks': masks, 'dense': ['b.weight']}}, tmp_path)
    assert found.densities == {'a.weight': 0.75, 'b.weight': 1.0}
    for wrong, message in (
        ({'c.weight': masks['a.weight']}, 'has a mask of c.weight and no such weight'),
        ({'b.weight': torch.ones(3, 2)}, r'has a mask of shape \(3, 2\) for b.weight of shape \(2, 2\)'),
    ):
        with pytest.raises(UsageError, match=message):
            read_sparsity({'state_dict': state, 'dynamic_sparsity': {'masks': wrong}}, tmp_path)
    with pytest.raises(UsageError, match='must hold a dict of weights, got list'):
        read_sparsity([1], tmp_path)


def test_a_checkpoint_of_another_network(classifier, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(trained(classifier), path)
    arguments = ('--config', 'configs/imagenet/pelk_t.py', '--image-size', '64')
    error = run_tool('draw_sparsity.py', path, '--out', tmp_path / 'a.png', *arguments).error
    assert error.startswith('the checkpoint does not fit configs/imagenet/pelk_t.py: ')
    assert not (tmp_path / 'a.png').exists()
