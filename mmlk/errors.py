"""The exception for mistakes a user can correct."""


class UsageError(ValueError):
    """Raised where an argument, a path or a config cannot be used as given.

    The message is one sentence: what was expected, what arrived, what to do. The command line tools print it without a
    traceback and exit with status 2.
    """
