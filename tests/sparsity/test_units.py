import pytest
import torch

from mmlk.sparsity import Elements, Kernels
from mmlk.sparsity.units import weights_per_entry


def test_elements_are_the_weights():
    weight = torch.arange(8.0).view(2, 4)
    unit = Elements()
    assert unit.mask_shape('w', weight.shape) == (2, 4)
    assert unit.sum(weight).equal(weight)
    assert unit.mean(weight).equal(weight)
    assert weights_per_entry((2, 4), (2, 4)) == 1


def test_kernels_by_hand():
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 8.0]).view(2, 1, 2, 2)
    unit = Kernels()
    assert unit.mask_shape('w', weight.shape) == (2, 1, 1, 1)
    assert unit.sum(weight).tolist() == [[[[10]]], [[[8]]]]
    assert unit.mean(weight).tolist() == [[[[2.5]]], [[[2]]]]
    assert weights_per_entry((2, 1, 2, 2), (2, 1, 1, 1)) == 4


def test_kernels_need_convolutions():
    with pytest.raises(ValueError, match=r'need weights of shape \(O, I, R, S\), got fc of shape \(4, 2\)'):
        Kernels().mask_shape('fc', (4, 2))
