"""The backends of the op, least preferred first."""

from __future__ import annotations

from functools import partial

from mmlk.ops.dispatch import PASSES, Dispatcher
from mmlk.ops.peripheral_conv2d import cpu, dense, triton_op

dispatcher = Dispatcher('peripheral_conv2d')

for _pass in PASSES:
    dispatcher.register('dense', _pass, getattr(dense, _pass), dense.why_not)
    for _name, _module in (('shared/cpu', cpu), ('shared/triton', triton_op)):
        dispatcher.register(
            _name,
            _pass,
            getattr(_module, _pass),
            _module.why_not,
            why_rather_not=partial(_module.why_rather_not, _pass),
        )
dispatcher.register_joint('dense', dense.backward)
dispatcher.register_joint('shared/cpu', cpu.backward)
