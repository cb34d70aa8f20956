import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.fit import require_fit, unwrap_state_dict
from mmlk.errors import UsageError

TINY = dict(type='mmlk.PeLK', depths=(1, 1, 1, 1), width_factor=1 / 12, kernel_size=(5, 5, 5, 5), center_radius=1)


@pytest.mark.parametrize('wrapper', ['state_dict', 'model', 'module', None])
def test_unwrap(wrapper):
    weights = {'a': torch.ones(1), 'epoch': 3}
    assert list(unwrap_state_dict({wrapper: weights} if wrapper else weights)) == ['a']


def test_unwrap_nothing():
    with pytest.raises(
        UsageError, match=r"expected a checkpoint with weights.* got a mapping with the keys \['epoch'\]"
    ):
        unwrap_state_dict({'epoch': 3})
    with pytest.raises(UsageError, match=r'got a mapping with the keys \[1\]'):
        unwrap_state_dict({1: torch.ones(1)})
    with pytest.raises(UsageError, match='expected a.pth to be a checkpoint with weights.* got list'):
        unwrap_state_dict([1], 'a.pth')


def test_require_fit_counts_and_names_what_differs():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.BatchNorm1d(4))
    weights = dict(model.state_dict())
    require_fit(model, weights, 'good.pth')
    # Older checkpoints have no such counter; it is not a weight.
    del weights['2.num_batches_tracked']
    require_fit(model, weights, 'good.pth')
    del weights['0.weight'], weights['0.bias']
    weights |= {'1.weight': torch.ones(5, 3), 'head.weight': torch.ones(1)}
    with pytest.raises(UsageError) as error:
        require_fit(model, weights, 'other.pth')
    text = str(error.value)
    assert text.startswith('other.pth does not fit Sequential: 2 keys missing (0.weight, 0.bias)')
    assert '1 keys unexpected (head.weight)' in text
    assert '1 of another shape (1.weight (5, 3) instead of (4, 3))' in text
    require_fit(
        model, {'1.weight': weights['1.weight'][:4], '1.bias': weights['1.bias']}, 'part.pth', optional=('0.', '2.')
    )


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda tensor: tensor.to(torch.complex64), '1 of another type (weight torch.complex64)'),
        (lambda tensor: tensor.to(torch.int64), '1 of another type (weight torch.int64)'),
        (torch.Tensor.to_sparse, '1 of another type (weight torch.sparse_coo)'),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), '1 of another type (weight quantised)'),
        (lambda tensor: tensor.to('meta'), '1 of another type (weight without its values)'),
        (lambda tensor: tensor / 0, '1 with NaN or infinity (weight)'),
    ],
    ids=['complex', 'integers', 'sparse', 'quantised', 'meta', 'infinite'],
)
def test_require_fit_names_what_cannot_be_a_weight(change, problem):
    model = nn.Linear(2, 3)
    weights = model.state_dict() | {'weight': change(torch.ones(3, 2))}
    with pytest.raises(UsageError) as error:
        require_fit(model, weights, 'other.pth')
    assert f'other.pth does not fit Linear: {problem}; ' in str(error.value)


def test_require_fit_takes_other_precisions_and_models_without_memory():
    model = nn.Linear(2, 3)
    weights = model.state_dict()
    require_fit(model, {key: value.half() for key, value in weights.items()}, 'half.pth')
    require_fit(model.to('meta'), {key: value.to('meta') for key, value in weights.items()}, 'shapes.pth')


class TestPretrainedBackbone:
    def build(self, path, **changes):
        return MODELS.build(
            TINY | changes | dict(init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))
        )

    def save(self, path, net, prefix='backbone.', **more):
        torch.save({'state_dict': {prefix + key: value for key, value in net.state_dict().items()} | more}, path)

    def test_classifier_to_backbone(self, tmp_path):
        """The classifier's norm has no place in a segmentor's backbone; the output norms are new."""
        source = MODELS.build(TINY | dict(final_norm=True))
        self.save(tmp_path / 'w.pth', source, **{'head.fc.weight': torch.ones(2, 2)})
        net = self.build(tmp_path / 'w.pth')
        net.init_weights()
        for key, value in source.state_dict().items():
            if not key.startswith('norm.'):
                assert torch.equal(net.state_dict()[key], value), key
        assert torch.equal(net.norm0.weight, torch.ones(8))

    @pytest.mark.parametrize('prefix', ['', 'backbone.'])
    def test_with_and_without_prefix(self, tmp_path, prefix):
        source = MODELS.build(TINY)
        self.save(tmp_path / 'w.pth', source, prefix)
        net = self.build(tmp_path / 'w.pth')
        net.init_weights()
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in net.state_dict().items())

    def test_other_network(self, tmp_path):
        self.save(tmp_path / 'w.pth', MODELS.build(TINY | dict(depths=(1, 2, 1, 1), kernel_size=(5, 5, 5, 7))))
        with pytest.raises(
            UsageError, match=r'w.pth does not fit PeLK: \d+ keys unexpected \(stages.1.blocks.1.*of another shape'
        ):
            self.build(tmp_path / 'w.pth').init_weights()

    def test_missing_file_names_config_and_way_out(self, repository):
        for size in ('t', 's', 'b', 'b_101'):
            with pytest.raises(UsageError) as error:
                self.build(f'checkpoints/pelk_{size}.pth').init_weights()
            text = str(error.value)
            assert f'configs/imagenet/pelk_{size}.py' in text
            assert (repository / f'configs/imagenet/pelk_{size}.py').is_file()
            assert '--cfg-options model.backbone.init_cfg=None' in text
        with pytest.raises(UsageError, match='found no such file: start from random weights'):
            self.build('elsewhere/mine.pth').init_weights()
