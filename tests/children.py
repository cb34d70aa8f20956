"""Functions run in processes forked from this one, which has imported what takes long."""

import importlib
import os
import sys
import traceback

import torch
from tool_runner import forget_singletons


def fork(function):
    """Start a function in a process of its own.

    Returns:
        The number of the process, to be waited for.
    """
    # Otherwise each would import them, when the first hook is looked up.
    importlib.import_module('mmlk.engine')
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # Threads of the parent do not exist here; a pool of them would be waited for in vain.
        torch.set_num_threads(1)
        forget_singletons()
        function()
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def ending(child):
    """Wait for a process; what ended it: 0, its exit code, or minus the number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_children(*functions):
    """Run functions side by side, each in a process of its own; what ended each."""
    return [ending(child) for child in [fork(function) for function in functions]]
