"""Every argument of the hook that is wrong gets one sentence."""

import re

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS
from sparse_runs import runner, sparsity

import mmlk  # noqa: F401
from mmlk.engine import DynamicSparsityHook
from mmlk.engine.hooks.dynamic_sparsity.report import compact_names
from mmlk.engine.hooks.dynamic_sparsity.settings import MODES
from mmlk.errors import UsageError

NAME = 'of mmlk.DynamicSparsityHook'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(),
            "mmlk.DynamicSparsityHook needs sparsity in mode 'dynamic', a share of the weights in [0, 1), got none",
        ),
        (dict(mode='fixed'), "mmlk.DynamicSparsityHook needs sparsity in mode 'fixed'"),
        (dict(sparsity=1), f'sparsity {NAME} must be a share of the weights in [0, 1), got 1'),
        (dict(sparsity=-0.1), f'sparsity {NAME} must be a share of the weights in [0, 1), got -0.1'),
        (dict(sparsity=40), f'sparsity {NAME} must be a share of the weights in [0, 1), got 40'),
        (dict(sparsity='0.4'), f"sparsity {NAME} must be a share of the weights in [0, 1), got '0.4'"),
        (dict(sparsity=float('nan')), f'sparsity {NAME} must be a share of the weights in [0, 1), got nan'),
        (dict(sparsity=True), f'sparsity {NAME} must be a share of the weights in [0, 1), got True'),
        (dict(mode='on'), f"mode {NAME} must be one of 'dynamic', 'fixed', 'static', got 'on'"),
        (dict(sparsity=0.4, init='ERK'), f"init {NAME} must be one of 'snip', 'erk', 'uniform', got 'ERK'"),
        (dict(sparsity=0.4, growth='rigl'), f"growth {NAME} must be one of 'random', 'gradient', got 'rigl'"),
        (dict(sparsity=0.4, unit='row'), f"unit {NAME} must be one of 'element', 'kernel', got 'row'"),
        (
            dict(sparsity=0.4, interval=0),
            f'interval {NAME} must be a whole number of optimizer steps, 1 or more, got 0',
        ),
        (dict(sparsity=0.4, interval=2.5), f'interval {NAME} must be a whole number of optimizer steps, 1 or more'),
        (dict(sparsity=0.4, prune_rate=0), f'prune_rate {NAME} must be a share of the active weights in (0, 1], got 0'),
        (dict(sparsity=0.4, prune_rate=1.5), f'prune_rate {NAME} must be a share of the active weights in (0, 1]'),
        (
            dict(sparsity=0.4, share_interval=-1),
            f'share_interval {NAME} must be a whole number of updates, 0 for masks',
        ),
        (dict(sparsity=0.4, exact='no'), f"exact {NAME} must be True or False, got 'no'"),
        (dict(sparsity=0.4, seed=-3), f'seed {NAME} must be a whole number, 0 or more, got -3'),
        (dict(sparsity=0.4, scope=''), f"scope {NAME} must be 'all', 'large_kernels' or a regular expression"),
        (dict(sparsity=0.4, scope=['head']), f"scope {NAME} must be 'all', 'large_kernels' or a regular expression"),
        (
            dict(sparsity=0.4, scope='(head'),
            f"scope {NAME} must be 'all', 'large_kernels' or a regular expression, got",
        ),
        (dict(mode='static', sparsity=0.4), f"sparsity {NAME} has no meaning in mode 'static', only in 'dynamic' and"),
        (
            dict(mode='static', interval=100),
            f"interval {NAME} has no meaning in mode 'static', only in 'dynamic'; leave",
        ),
        (dict(mode='fixed', sparsity=0.4, growth='random'), f"growth {NAME} has no meaning in mode 'fixed', only in"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else '',
)
def test_wrong_argument(arguments, message):
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        DynamicSparsityHook(**arguments)
    assert '\n' not in str(error.value)


def test_defaults_are_the_papers():
    assert DynamicSparsityHook(sparsity=0.4).settings == dict(
        sparsity=0.4, init='snip', interval=2000, prune_rate=0.5, growth='random', share_interval=None, exact=True,
        seed=None,
    )  # fmt: skip
    assert DynamicSparsityHook(sparsity=0, mode='fixed', init='erk').settings['init'] == 'erk'
    assert DynamicSparsityHook(mode='static').settings == {}


def test_every_mode_has_rules():
    """An argument that a mode lists has a rule, and every argument of the class is listed or common."""
    import inspect

    listed = {name for arguments in MODES.values() for name in arguments}
    own = set(inspect.signature(DynamicSparsityHook.__init__).parameters) - {'self', 'mode', 'scope', 'unit'}
    assert listed == own


def test_from_a_config():
    cfg = Config.fromstring("hook = dict(type='mmlk.DynamicSparsityHook', sparsity=0.3, scope='large_kernels')", '.py')
    hook = HOOKS.build(cfg.hook)
    assert isinstance(hook, DynamicSparsityHook)
    assert (hook.scope, hook.settings['sparsity']) == ('large_kernels', 0.3)
    with pytest.raises(TypeError, match='density'):
        HOOKS.build(dict(type='mmlk.DynamicSparsityHook', density=0.3))


def test_scope_that_matches_nothing(tmp_path):
    with pytest.raises(UsageError, match="scope='decode_head'.* matches no trainable weight.*of Network: give one of"):
        runner(tmp_path, sparsity(scope='decode_head'), length=1).train()
    with pytest.raises(UsageError, match=r"scope='large_kernels'.* matches no trainable weight"):
        runner(tmp_path, sparsity(scope='large_kernels'), length=1).train()


def test_kernels_of_a_linear_layer(tmp_path):
    with pytest.raises(UsageError, match=r'Whole kernels need weights of shape .*, got head.0.weight'):
        runner(tmp_path, sparsity(unit='kernel'), length=1).train()


def test_compact_names():
    names = [
        'backbone.downsample_layers.0.0.weight',
        'backbone.stages.2.blocks.10.mixer.vertical_weight',
        'backbone.stages.2.blocks.10.mixer.weight',
        'backbone.stages.2.shared.weight',
        'head.fc.weight',
    ]
    expected = ['down0.0', 's2.b10.mixer.vertical_weight', 's2.b10.mixer', 'stages.2.shared', 'head.fc']
    assert list(compact_names(names).values()) == expected
    # Names that would become one stay what they are.
    assert compact_names(['a.weight', 'a']) == {'a.weight': 'a.weight', 'a': 'a'}
