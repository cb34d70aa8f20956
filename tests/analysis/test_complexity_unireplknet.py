"""Parameters and FLOPs of every row of UniRepLKNet's ImageNet tables, by the papers' counting rule (merged network)."""

import pytest
from classifier import classifier_on_meta

import mmlk  # noqa: F401
from mmlk.analysis.complexity import backbone_complexity, count_params, merged_on_meta

#: arch, resolution, parameters computed from the structure and as printed (M), FLOPs the same (G). Of the smallest
#: four, only the printed FLOPs are known.
ROWS = [
    ('a', 224, 4_437_300, 4.4, None, 0.6),
    ('f', 224, 6_235_216, 6.2, None, 0.9),
    ('p', 224, 10_741_704, 10.7, None, 1.6),
    ('n', 224, 18_318_560, 18.3, None, 2.8),
    ('t', 224, 31_037_980, 31, 4.899, 4.9),
    ('s', 224, 55_645_984, 56, 9.094, 9.1),
    ('s', 384, 55_645_984, 56, 26.72, 26.7),
    ('b', 384, 98_008_456, 98, 47.18, 47.2),
    ('l', 384, 218_454_616, 218, 105.42, 105.4),
    ('xl', 384, 386_529_064, 386, 186.77, 187),
]


@pytest.mark.parametrize(('arch', 'resolution', 'params', 'printed_params', 'flops', 'printed_flops'), ROWS)
def test_imagenet_tables(arch, resolution, params, printed_params, flops, printed_flops):
    net = classifier_on_meta('mmlk.UniRepLKNet', arch=arch)
    found_params = count_params(merged_on_meta(net))
    found_flops = backbone_complexity(net, (resolution, resolution)).macs / 1e9
    assert found_params == params
    if flops is not None:
        assert found_flops == pytest.approx(flops, rel=5e-4)
    # Half a unit of the last printed digit; XL's 386.53M are printed cut off, not rounded.
    for value, printed in ((found_params / 1e6, printed_params), (found_flops, printed_flops)):
        assert value == pytest.approx(printed, abs=0.055 if isinstance(printed, float) else 0.55)
