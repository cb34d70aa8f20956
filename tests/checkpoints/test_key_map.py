import pytest

from mmlk.checkpoints.key_map import KeyMap, Rule

TABLE = KeyMap(
    'toy',
    (
        Rule('stem.{i}.conv.weight', 'downsample_layers.0.{i}.0.weight'),
        Rule('stages.{s}.{b}.lk.{rest*}', 'stages.{s}.blocks.{b}.mixer.{rest*}'),
        Rule('head.{p*}', 'head.fc.{p*}'),
    ),
    {r'head\.cls_22k\..*': 'classifier of another data set'},
)


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('stem.3.conv.weight', 'downsample_layers.0.3.0.weight'),
        ('stages.2.14.lk.bn.running_var', 'stages.2.blocks.14.mixer.bn.running_var'),
        ('head.bias', 'head.fc.bias'),
    ],
)
def test_both_directions(theirs, ours):
    assert TABLE.to_ours(theirs) == ours
    assert TABLE.to_theirs(ours) == theirs


def test_unexplained_and_dropped():
    assert TABLE.to_ours('stages.a.1.lk.weight') is None
    assert TABLE.to_ours('stem.3.conv.weight_') is None
    assert TABLE.to_ours('stemx3.conv.weight') is None
    assert TABLE.drop_reason('head.cls_22k.weight') == 'classifier of another data set'
    assert TABLE.drop_reason('head.weight') is None


def test_rule_with_different_fields():
    with pytest.raises(ValueError, match='both sides of a rule must hold the same fields'):
        Rule('stages.{s}.{b}', 'stages.{s}')
