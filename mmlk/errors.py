"""The exceptions that the command line tools print as one sentence."""

from __future__ import annotations

import re

#: What MMEngine puts in front of an error for every level of nesting: "class `PeLK` in mmlk/models/...: ".
REGISTRY_PREFIX = re.compile(r'^(?:class `\w+` in \S+: )+')


class UsageError(ValueError):
    """Raised where an argument, a path or a config cannot be used as given.

    The message is one sentence: what was expected, what arrived, what to do. The command line tools print it without a
    traceback and exit with status 2.
    """


class TrainingStopped(Exception):
    """Raised where a training run ends early for a reason that is no programming error.

    Args:
        message: One sentence: what happened, what was saved, how to go on. Empty where another process says it.
        status: What the command line tools exit with.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
