"""The steps of the examination that import packages, run in a process that may die of it.

``main(['numpy', 'torch'])`` runs steps in this order and prints, before and after each, a line that begins with
:data:`MARK` and goes on in JSON; what the packages themselves print does not matter.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

MARK = '\x1emmlk-doctor '


def numpy() -> dict:
    """Import, and a computation."""
    import numpy

    return {'version': numpy.__version__, 'works': bool(numpy.arange(4).sum() == 6)}


def cv2() -> dict:
    """Import, and a resize, which passes arrays from and to NumPy."""
    import cv2
    import numpy

    resized = cv2.resize(numpy.zeros((4, 4, 3), numpy.uint8), (2, 2))
    return {'version': cv2.__version__, 'file': cv2.__file__, 'works': resized.shape == (2, 2, 3)}


def torch() -> dict:
    """How PyTorch was built, and the devices it sees."""
    import torch

    facts = {
        'version': torch.__version__,
        'file': torch.__file__,
        'cuda_build': torch.version.cuda,
        'hip_build': torch.version.hip,
        'threads': torch.get_num_threads(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cuda_available': torch.cuda.is_available(),
        'gpus': [],
    }
    if facts['cuda_available']:
        facts['arch_list'] = torch.cuda.get_arch_list()
        facts['cudnn'] = torch.backends.cudnn.version()
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            facts['gpus'].append(
                {
                    'name': properties.name,
                    'capability': [properties.major, properties.minor],
                    'memory_gib': round(properties.total_memory / 2**30, 1),
                }
            )
        # The first kernel is where a driver or a build that does not fit shows.
        facts['gpu_works'] = bool((torch.ones(2, device='cuda') + 1).sum().item() == 4)
    return facts


def torchvision() -> dict:
    """Import, and an operator: it is missing where torch and torchvision were built for different versions."""
    import torch
    import torchvision

    kept = torchvision.ops.nms(
        torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]]), torch.tensor([0.9, 0.8]), 0.5
    )
    return {'version': torchvision.__version__, 'file': torchvision.__file__, 'works': kept.tolist() == [0]}


def triton() -> dict:
    """Import alone: a kernel needs a GPU."""
    import triton

    return {'version': triton.__version__}


def ops() -> dict:
    """For each operator and device: which backends can run, why the others cannot, and is the result right?"""
    import torch

    from mmlk.ops import depthwise_conv2d
    from mmlk.ops.depthwise_conv2d import dispatcher as depthwise
    from mmlk.ops.peripheral_conv2d import dispatcher as peripheral

    devices = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]
    facts: dict[str, Any] = {'backends': [], 'error': {}}
    for device in devices:
        x, weight = torch.randn(2, 8, 24, 24, device=device), torch.randn(8, 1, 13, 13, device=device)
        shared = torch.randn(8, 1, 5, 5, device=device)
        grid = (4, 2, 1, 2, 4)
        for op, kernels, settings in ((depthwise, weight, ()), (peripheral, shared, (grid,))):
            chosen = op.select('forward', x, kernels, settings=settings).backend.name
            for name in op.names():
                reason = ''
                try:
                    op.select('forward', x, kernels, forced=name, settings=settings)
                except RuntimeError as error:
                    # "OP cannot run its forward pass: NAME: REASON"
                    reason = str(error).partition(f'{name}: ')[2] or str(error)
                facts['backends'].append(
                    {'op': op.op, 'device': device, 'name': name, 'reason': reason, 'chosen': name == chosen}
                )
        expected = depthwise_conv2d(x.double().cpu(), weight.double().cpu(), backend='reference')
        difference = (depthwise_conv2d(x, weight).cpu() - expected).norm() / expected.norm()
        facts['error'][device] = difference.item()
    return facts


def _host(name: str) -> Callable[[], dict]:
    """Import of a package of OpenMMLab as mmlk does it: with the fallback operators at hand."""

    def step() -> dict:
        import importlib

        from mmlk import compat

        compat.install()
        package = importlib.import_module(name)
        parts = {'mmcv': ['mmcv.ops'], 'mmengine': ['mmengine.runner']}.get(name, [f'{name}.models'])
        for part in parts:
            importlib.import_module(part)
        facts = {'version': package.__version__, 'file': package.__file__}
        if name == 'mmcv':
            extension = sys.modules.get('mmcv._ext')
            facts['compiled'] = getattr(extension, '__file__', None) is not None
        return facts

    step.__doc__ = f'Import of {name}.'
    return step


def mmlk() -> dict:
    """The networks of this package, registered."""
    from mmlk import registry
    from mmlk.version import __version__

    registry.MODELS.import_from_location()
    return {
        'version': __version__,
        'file': registry.__file__,
        'registered': sorted(registry.MODELS.module_dict),
    }


STEPS: dict[str, Callable[[], dict]] = {
    'numpy': numpy,
    'cv2': cv2,
    'torch': torch,
    'torchvision': torchvision,
    'triton': triton,
    'ops': ops,
    'mmengine': _host('mmengine'),
    'mmcv': _host('mmcv'),
    'mmpretrain': _host('mmpretrain'),
    'mmdet': _host('mmdet'),
    'mmseg': _host('mmseg'),
    'mmlk': mmlk,
}


def main(names: Sequence[str]) -> None:
    """Run steps and report each."""
    # The packages print as they like; what is reported must not be mixed with it, nor wait in a buffer.
    report = os.fdopen(os.dup(1), 'w', encoding='utf-8')

    def say(**line: Any) -> None:
        report.write(f'\n{MARK}{json.dumps(line)}\n')
        report.flush()

    for name in names:
        say(step=name, state='begin')
        start = time.perf_counter()
        try:
            facts = STEPS[name]()
        except BaseException as error:  # an import may raise anything, SystemExit included
            say(step=name, state='failed', error=describe(error), seconds=round(time.perf_counter() - start, 2))
        else:
            say(step=name, state='done', facts=facts, seconds=round(time.perf_counter() - start, 2))


def describe(error: BaseException) -> str:
    """Type and message of an exception and of those that caused it, on one line."""
    texts = []
    while error is not None and len(texts) < 4:
        text = ' '.join(str(error).split())
        texts.append(f'{type(error).__name__}: {text}' if text else type(error).__name__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ' <- '.join(dict.fromkeys(texts))
