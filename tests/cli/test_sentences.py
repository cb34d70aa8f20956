"""What other libraries raise, on one line, with what helps to correct it."""

import pytest
import torch
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS
from torch import nn
from torch.utils.data import DataLoader

import mmlk  # noqa: F401
from mmlk.cli.sentences import LONGEST, sentence_of
from mmlk.errors import UsageError


def raised(function, *arguments, **keywords):
    with pytest.raises(Exception) as caught:
        function(*arguments, **keywords)
    return caught.value


def build(kind, **arguments):
    return raised(MODELS.build, dict(type=kind, **arguments))


def test_our_own_sentence_stays():
    assert sentence_of(UsageError('expected a, got b')) == 'expected a, got b'


def test_what_moves_the_cursor_is_written_out():
    assert sentence_of(UsageError('a\0b\x1b[2J.jpg is empty')) == r'a\x00b\x1b[2J.jpg is empty'


def test_class_that_was_built_is_named():
    sentence = sentence_of(build('mmlk.PeLK', arch='t', depths=(1, 1, 1, 0)))
    assert sentence == 'PeLK: depths must hold four positive integers, one per stage, got (1, 1, 1, 0)'


def test_misspelt_argument():
    sentence = sentence_of(build('mmlk.PeLK', kernal_size=(9, 9, 7, 7)))
    assert sentence.endswith("unexpected keyword argument 'kernal_size'; did you mean kernel_size?")


def test_misspelt_argument_of_a_base_class():
    error = raised(PARAM_SCHEDULERS.build, dict(type='PolyLR', optimizer=None, eta_mmin=0.1))
    assert sentence_of(error).endswith("unexpected keyword argument 'eta_mmin'; did you mean eta_min?")


def test_misspelt_class():
    sentence = sentence_of(build('mmlk.PELK'))
    assert sentence.startswith('mmlk.PELK is not in the ')
    assert sentence.endswith('::model registry; did you mean mmlk.PeLK?')
    error = raised(HOOKS.build, dict(type='ParamSchedulrHook'))
    assert sentence_of(error).endswith('did you mean mmengine.ParamSchedulerHook?')


def test_class_unlike_all_others():
    assert sentence_of(build('mmlk.Qqqqqqq')).endswith('::model registry')


def fails():
    raise AssertionError


def test_error_without_a_message_shows_the_line():
    assert sentence_of(raised(fails)).startswith('`raise AssertionError` failed in tests/cli/test_sentences.py, line ')


def test_error_that_was_not_raised():
    assert sentence_of(ValueError()) == 'failed with ValueError'


def test_missing_key():
    assert sentence_of(KeyError('model')) == "there is no key 'model', which is needed"


def test_one_line_of_bounded_length():
    assert sentence_of(ValueError('a\n  b\tc')) == 'a b c'
    assert len(sentence_of(ValueError('long ' * 1000))) <= LONGEST + 4


def test_dumped_configs_are_left_out():
    inner = dict(a=list(range(50)), b=dict(c='x' * 80))
    error = ValueError(f'model must be None, got {inner} in <a.b.Hook object at 0x7f00>')
    assert sentence_of(error) == 'model must be None, got {...} in a.b.Hook'


def test_missing_file():
    assert sentence_of(raised(open, '/no/such/file')) == 'there is no file /no/such/file'


def test_endless_recursion():
    def again():
        again()

    assert sentence_of(raised(again)) == 'something contains itself, or is nested too deeply'


class Broken(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    'error', [UsageError('a.jpg is empty'), ValueError('a.jpg is empty'), KeyError('a.jpg is empty')]
)
def test_error_of_a_worker(error):
    """It arrives with the traceback of the worker in its message."""
    arrived = raised(list, DataLoader(Broken(error), num_workers=1))
    assert 'Traceback' in str(arrived)
    assert sentence_of(arrived).strip("'") == 'a.jpg is empty'


def test_shapes_that_do_not_fit():
    """In a forward pass the class of the layer says which."""
    from mmcv.cnn import ConvModule

    layer = ConvModule(3, 4, 3)
    assert isinstance(layer, nn.Module)
    assert sentence_of(raised(layer, torch.ones(1, 5, 8, 8))).startswith('ConvModule: Given groups=1, weight of size')
