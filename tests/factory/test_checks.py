"""Arguments of another type or out of range are one sentence that names them."""

import pytest

import mmlk


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(name=3), 'expected the name of a model, got 3'),
        (dict(pretrained=3), 'pretrained must be the path of a file, got 3'),
        (dict(num_classes=-1), 'num_classes must be an integer of at least 0, got -1'),
        (dict(num_classes='10'), "num_classes must be an integer of at least 0, got '10'"),
        (dict(in_chans=0), 'in_chans must be an integer of at least 1, got 0'),
        (dict(drop_rate='x'), "drop_rate must be a number from 0 to below 1, got 'x'"),
        (dict(drop_rate=1.0), 'drop_rate must be a number from 0 to below 1, got 1.0'),
        (dict(drop_rate=float('nan')), 'drop_rate must be a number from 0 to below 1, got nan'),
        (dict(deploy='sideways'), "deploy must be True, False or one of .* got 'sideways'"),
        (dict(deploy=[]), r'deploy must be True, False or one of .* got \[\]'),
        (dict(features_only=True, out_indices='last'), "out_indices must be a number from 1 to 4, or .* got 'last'"),
        (dict(features_only=True, out_indices=0), 'out_indices must be a number from 1 to 4, or stages .* got 0'),
        (dict(features_only=True, out_indices=(0, 4)), r'out_indices must be .* stages from -4 to 3, got \(0, 4\)'),
        (dict(features_only=True, out_indices=()), r'out_indices must be .* got \(\)'),
        (dict(norm_cfg=-1), 'unireplknet_a cannot be built with norm_cfg=-1: cfg must be a dict'),
        (dict(drop_path_rate='x'), "unireplknet_a cannot be built with drop_path_rate='x': "),
        (dict(sideways=1), "unireplknet_a cannot be built with sideways=1: .* unexpected keyword argument 'sideways'"),
    ],
)
def test_create_model(arguments, message):
    with pytest.raises(mmlk.UsageError, match=f'^{message}') as caught:
        mmlk.create_model(**(dict(name='unireplknet_a') | arguments))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('pattern', [None, 3, [1], {'a': 1}])
def test_list_models(pattern):
    with pytest.raises(mmlk.UsageError, match='^pattern must be a shell pattern or a sequence of them, got '):
        mmlk.list_models(pattern)
