"""The backends of the op, least preferred first."""

from __future__ import annotations

from functools import partial

from mmlk.ops.depthwise_conv2d import cpu, reference, triton_op
from mmlk.ops.dispatch import PASSES, Dispatcher

dispatcher = Dispatcher('depthwise_conv2d')

for _pass in PASSES:
    dispatcher.register('reference', _pass, getattr(reference, _pass), reference.why_not)
    for _name in cpu.ALGORITHMS:
        dispatcher.register(
            f'cpu/{_name}',
            _pass,
            partial(getattr(cpu, _pass), algorithm=_name),
            partial(cpu.why_not_algorithm, _name, _pass),
            forced_only=True,
        )
    dispatcher.register(
        'cpu',
        _pass,
        getattr(cpu, _pass),
        cpu.why_not,
        why_rather_not=cpu.why_rather_not,
        describe=partial(cpu.describe, _pass),
    )
    dispatcher.register(
        'triton',
        _pass,
        getattr(triton_op, _pass),
        triton_op.why_not,
        why_rather_not=partial(triton_op.why_rather_not, _pass),
    )
dispatcher.register_joint('cpu', cpu.backward)
dispatcher.register_joint('cpu/fft', partial(cpu.backward, algorithm='fft'))
