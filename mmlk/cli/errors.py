"""One sentence instead of a traceback, where a user can correct the mistake."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmlk.errors import UsageError

#: Status of a command that was used wrongly, as argparse has it.
USAGE_STATUS = 2
INTERRUPT_STATUS = 130

#: Mistakes in a config surface as these while things are built from it.
BUILD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, AssertionError, ImportError, OSError, SyntaxError)

# MMEngine puts "class `EncoderDecoder` in mmseg/models/...: " in front of an error for every level of nesting.
_REGISTRY_PREFIX = re.compile(r'^(?:class `\w+` in \S+: )+')


@contextmanager
def one_sentence(*errors: type[BaseException], interrupted: str = 'stopped') -> Iterator[None]:
    """Print user errors as ``error: ...`` and exit with status 2; other exceptions pass.

    Args:
        *errors: Exceptions that count as user errors besides :class:`UsageError`, missing files and unsafe checkpoints.
        interrupted: What to print on Ctrl-C.

    ``MMLK_TRACEBACK=1`` lets every exception through. Ctrl-C exits with status 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f'\n{interrupted}', file=sys.stderr)
        sys.exit(INTERRUPT_STATUS)
    except (UsageError, FileNotFoundError, pickle.UnpicklingError, *errors) as error:
        if os.environ.get('MMLK_TRACEBACK'):
            raise
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        text = _REGISTRY_PREFIX.sub('', text).strip() or type(error).__name__
        if not isinstance(error, (UsageError, OSError, pickle.UnpicklingError)):
            text += f' ({type(error).__name__}; MMLK_TRACEBACK=1 shows where)'
        print(f'error: {text}', file=sys.stderr)
        sys.exit(USAGE_STATUS)
