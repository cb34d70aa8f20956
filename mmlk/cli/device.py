"""Where a tool runs."""

from __future__ import annotations

import torch

from mmlk.errors import UsageError


def resolve_device(name: str | None) -> str:
    """The device to run on: a GPU where there is one.

    Args:
        name: What ``--device`` says, such as ``'cpu'`` or ``'cuda:1'``; ``None``: nothing.

    Raises:
        UsageError: There is no such device here.
    """
    if name is None:
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    if name.partition(':')[0] == 'cuda' and not torch.cuda.is_available():
        raise UsageError(f'--device {name} needs a CUDA device that torch can use, found none; use --device cpu')
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise UsageError(f'--device must be one that torch can use here, such as cpu, got {name} ({reason})') from error
    return name
