"""Argument checks of `create_model`. One sentence per mistake: what was expected and what arrived."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from mmlk.errors import REGISTRY_PREFIX, UsageError

STAGES = 4
FORMS = ('auto', 'dense', 'strips')


def check_arguments(
    pretrained: Any, num_classes: Any, out_indices: Any, in_chans: Any, drop_rate: Any, deploy: Any
) -> None:
    """Check the types and ranges of what :func:`mmlk.create_model` does not hand on to the backbone.

    Raises:
        UsageError: One of them is of another type or out of range.
    """
    if pretrained is not None and not isinstance(pretrained, (str, bool, os.PathLike)):
        _refuse('pretrained', 'the path of a file', pretrained)
    if type(num_classes) is not int or num_classes < 0:
        _refuse('num_classes', 'an integer of at least 0', num_classes)
    if type(in_chans) is not int or in_chans < 1:
        _refuse('in_chans', 'an integer of at least 1', in_chans)
    if type(drop_rate) not in (int, float) or not 0 <= drop_rate < 1:
        _refuse('drop_rate', 'a number from 0 to below 1', drop_rate)
    if not isinstance(deploy, bool) and deploy not in FORMS:
        _refuse('deploy', f'True, False or one of {FORMS}', deploy)
    if type(out_indices) is int:
        known = 1 <= out_indices <= STAGES
    else:
        # Text is a sequence too, but not of numbers.
        known = isinstance(out_indices, Sequence) and len(out_indices) > 0
        known = known and all(type(stage) is int and -STAGES <= stage < STAGES for stage in out_indices)
    if out_indices is not None and not known:
        _refuse('out_indices', f'a number from 1 to {STAGES}, or stages from {-STAGES} to {STAGES - 1}', out_indices)


def build(make: Callable[[], Any], backbone: str, given: dict[str, Any]) -> Any:
    """Build something of which the user gave arguments that are checked nowhere else.

    Args:
        make: Builds it.
        backbone: Its name, for the message.
        given: Those arguments.

    Raises:
        UsageError: It cannot be built; the message names the arguments.
    """
    try:
        return make()
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError, IndexError, RuntimeError) as error:
        if not given:
            raise
        text = ' '.join(REGISTRY_PREFIX.sub('', str(error)).split()) or type(error).__name__
        arguments = ', '.join(f'{key}={reprlib.repr(value)}' for key, value in given.items())
        raise UsageError(f'{backbone} cannot be built with {arguments}: {text}') from error


def _refuse(name: str, expected: str, value: Any) -> None:
    raise UsageError(f'{name} must be {expected}, got {reprlib.repr(value)}')
