import numpy as np
import pytest
import torch

from mmlk.analysis.sparsity_figure import (
    PATTERN_PIXELS,
    _mosaic,
    _shares,
    draw_density,
    draw_pattern,
    group_layers,
    parse_name,
)


def test_names():
    assert parse_name('backbone.stages.2.blocks.10.mixer.paths.1') == ('stage 3', 'mixer.paths', '10 mixer.paths.1')
    assert parse_name('module.backbone.stages.0.blocks.3.mixer.vertical_weight').kind == 'mixer.vertical'
    assert parse_name('backbone.downsample_layers.0.0.weight')[:2] == ('stem', 'stem')
    assert parse_name('downsample_layers.2.1.weight')[:2] == ('stage 3', 'downsample')
    assert parse_name('head.fc.weight')[:2] == ('head', 'head.fc')
    assert parse_name('features.3.weight')[:2] == ('other', 'features')


def test_groups_in_the_order_of_the_network():
    names = ['head.fc.weight', 'stages.10.blocks.0.ffn.fc1.weight', 'stages.1.blocks.0.ffn.fc1.weight', 'odd.weight']
    names += ['downsample_layers.1.1.weight', 'downsample_layers.0.0.weight']
    groups = group_layers(names)
    assert list(groups) == ['stem', 'stage 2', 'stage 11', 'head', 'other']
    assert groups['stage 2'] == ['stages.1.blocks.0.ffn.fc1.weight', 'downsample_layers.1.1.weight']


@pytest.mark.parametrize('count', [1, 5, 25, 120])
def test_density_draws_every_layer(count):
    names = [f'backbone.stages.{i * 4 // count}.blocks.{i}.ffn.fc1.weight' for i in range(count)]
    picture = draw_density(dict.fromkeys(names, 0.5))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    # Halfway up a bar it is coloured; the row has a run of that colour per layer.
    blue = (np.abs(picture.astype(int) - [31, 119, 180]).max(2) < 12)[:, 60:]
    row = blue[np.flatnonzero(blue.sum(1) > blue.sum(1).max() * 0.9)[5]]
    assert np.count_nonzero(np.diff(row.astype(int)) == 1) == count


def test_density_shows_the_values():
    name = 'stages.0.blocks.0.ffn.fc1.weight'
    heights = []
    for density in (0.25, 0.75):
        picture = draw_density({name: density}).astype(int)
        # Above the legend, which has the colour too.
        blue = (np.abs(picture - [31, 119, 180]).max(2) < 12)[:, picture.shape[1] // 2 + 40]
        heights.append(blue.sum())
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.05)


def test_no_global_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_density({'head.fc.weight': 1.0})
    assert dict(matplotlib.rcParams) == before
    import sys

    pyplot = sys.modules.get('matplotlib.pyplot')
    assert pyplot is None or not pyplot.get_fignums()


def test_mosaic_by_hand():
    kept = np.array([[[1, 0]], [[0, 1]], [[1, 1]]], bool)
    picture, shown = _mosaic(kept)
    assert shown == 3
    line, dark, light = [203, 211, 221], [20, 60, 110], [255, 255, 255]
    # sqrt(3.2 * 3 * 2 / 3) rounds to three in a row: a row of kernels between lines.
    assert picture.shape == (3, 10, 3)
    assert (picture[0] == line).all()
    assert picture[1].tolist() == [line, dark, light, line, light, dark, line, dark, dark, line]


def test_large_layers_are_thinned():
    picture, shown = _mosaic(np.ones((4000, 51, 5), bool))
    assert shown == PATTERN_PIXELS // (52 * 6)
    assert picture.shape[0] * picture.shape[1] < 1.5 * PATTERN_PIXELS


def test_shares_of_a_matrix():
    kept = np.zeros((720, 10), bool)
    kept[:360] = True
    picture = _shares(kept)
    assert picture.shape == (10, 360, 3)
    assert (picture[:, :180] == [20, 60, 110]).all()
    assert (picture[:, 180:] == 255).all()


def test_pattern_of_every_kind():
    patterns = {
        'stages.0.blocks.0.mixer.vertical_weight': torch.rand(24, 1, 51, 5) > 0.4,
        'stages.0.blocks.0.mixer.paths.0': np.random.default_rng(0).random((100, 1, 3, 3)) > 0.5,
        'stages.0.blocks.0.ffn.fc1.weight': torch.nn.Parameter(torch.randn(64, 16)),
        'downsample_layers.1.1.weight': torch.randn(8, 4, 2, 2),
    }
    picture = draw_pattern(patterns)
    assert picture.dtype == np.uint8
    dark = (np.abs(picture.astype(int) - [20, 60, 110]).max(2) < 12).mean()
    assert 0.1 < dark < 0.7


def test_bad_arguments():
    with pytest.raises(ValueError, match='at least one layer, got none'):
        draw_density({})
    with pytest.raises(ValueError, match=r'density of a must be within \[0, 1\], got 1.5'):
        draw_density({'a': 1.5})
    with pytest.raises(ValueError, match='at least one layer, got none'):
        draw_pattern({})
    with pytest.raises(ValueError, match=r'b must have two or four axes, got shape \(3,\)'):
        draw_pattern({'b': torch.ones(3)})
