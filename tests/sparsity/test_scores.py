import torch

from mmlk.sparsity import gradient_magnitude, magnitude, saliency, snip_scores


def test_scores_by_hand():
    weight = torch.tensor([1.0, -2.0, 0.0, 4.0, -5.0, 6.0, 7.0, -8.0])
    grad = torch.tensor([1.0, 1.0, 9.0, -1.0, 0.0, 0.5, -2.0, -1.0])
    assert magnitude(weight).tolist() == [1, 2, 0, 4, 5, 6, 7, 8]
    assert saliency(weight, grad).tolist() == [1, 2, 0, 4, 0, 3, 14, 8]
    assert gradient_magnitude(grad).tolist() == [1, 1, 9, 1, 0, 0.5, 2, 1]


def test_saliency_of_half_precision_does_not_underflow():
    tiny = torch.full((1,), 2.0**-14, dtype=torch.float16)
    assert saliency(tiny, tiny).item() == 2.0**-28


def test_snip_scores_of_one_backward():
    used = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5]))
    unused = torch.nn.Parameter(torch.ones(2, 2))
    used.grad = torch.full((4,), 7.0)
    x = torch.tensor([1.0, 2.0, -1.0, 4.0])
    scores = snip_scores({'used': used, 'unused': unused}, lambda: (used * x).sum())
    assert scores['used'].tolist() == [1, 4, 3, 2]
    assert scores['unused'].tolist() == [[0, 0], [0, 0]]
    assert used.grad.tolist() == [7] * 4
    assert unused.grad is None


def test_snip_scores_work_without_gradients_around():
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    with torch.no_grad():
        assert snip_scores({'w': weight}, lambda: weight.square().sum())['w'].tolist() == [8]
