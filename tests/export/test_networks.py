"""What of a model is exported, and what is refused."""

import pytest
import torch
from torch import nn

from mmlk.errors import UsageError
from mmlk.export import ExportedNetwork
from mmlk.export.networks import channel_order, normalisation


class Model(nn.Module):
    """As much of a host's model as is asked for."""

    def __init__(self, scores=None, **parts) -> None:
        super().__init__()
        self.scores = scores
        self.align_corners = False
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs, mode):
        assert mode == 'tensor'
        return self.scores

    def extract_feat(self, x):
        return [x]


class Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, features, previous=None):
        (x,) = features
        scores = x[:, :1, ::4, ::4].repeat(1, self.classes, 1, 1)
        return scores if previous is None else scores + previous


X = torch.randn(2, 3, 8, 12)


def test_one_class_is_a_sigmoid_several_are_a_softmax():
    for classes in (1, 3):
        network = ExportedNetwork(Model(decode_head=Head(classes)), 'segmentation', 'probabilities')
        (y,) = network(X)
        assert y.shape == (2, classes, 8, 12)
        logits = ExportedNetwork(Model(decode_head=Head(classes)), 'segmentation')(X)[0]
        assert torch.allclose(y, logits.sigmoid() if classes == 1 else logits.softmax(1))


def test_heads_in_a_row():
    heads = nn.ModuleList([Head(2), Head(2)])
    (y,) = ExportedNetwork(Model(decode_head=heads), 'segmentation')(X)
    (one,) = ExportedNetwork(Model(decode_head=Head(2)), 'segmentation')(X)
    assert torch.allclose(y, 2 * one)


def test_normalisation_and_order_of_channels(build):
    model = build('classification', 'RepLKNet')
    assert normalisation(model)[1] == pytest.approx([58.395, 57.12, 57.375])
    assert channel_order(model) == 'RGB' and channel_order(Model()) == 'BGR'
    pixels = ExportedNetwork(model, 'classification', preprocessing=True).eval()
    plain = ExportedNetwork(model, 'classification').eval()
    image = pixels.example(1, (64, 64))
    assert 200 < image.max() <= 255 and image.min() >= 0
    mean, std = (torch.tensor(values)[None, :, None, None] for values in normalisation(model))
    with torch.no_grad():
        assert torch.equal(pixels(image)[0], plain((image - mean) / std)[0])


@pytest.mark.parametrize(
    'model, arguments, message',
    [
        (Model(), dict(task='tracking'), 'task must be one of classification, segmentation, detection, got tracking'),
        (Model(), dict(task='classification', output='labels'), 'output must be one of logits, probabilities, got lab'),
        (Model(), dict(task='detection', output='probabilities'), 'probabilities are there for classifiers and segm'),
        (Model(), dict(task='segmentation'), 'expected a model with a decode_head, Model has none'),
        (Model(), dict(task='detection', backbone=True), 'expected a model with a backbone, Model has none'),
        (Model(), dict(task='classification', preprocessing=True), 'normalises nothing; leave out the preprocessing'),
    ],
)
def test_refused(model, arguments, message):
    with pytest.raises(UsageError, match=message):
        ExportedNetwork(model, **arguments)


def test_networks_without_class_scores_are_refused():
    with pytest.raises(UsageError, match='one tensor of class scores from Model, got a list: .*--backbone exports'):
        ExportedNetwork(Model(scores=[X]), 'classification')(X)
