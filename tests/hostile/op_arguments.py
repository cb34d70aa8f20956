"""Hostile arguments of the ops, of the layer, of ``accelerate`` and of ``create_model``."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile.campaign import SENTENCE, WORKED, Attempt, Campaign, Place
from hostile.op_calls import DTYPES, Call, check_forward, check_gradients, draw_call, require, shown
from hostile.op_tensors import LAYOUTS, TRANSFORMS, UNUSUAL, VALID_UNUSUAL, exported
from torch import Tensor, nn

import mmlk
from mmlk.nn import LargeKernelConv2d
from mmlk.ops import default_backend, explain

#: What is no tensor, no number and no name.
OBJECTS: tuple[Any, ...] = (
    None, 0, -1, 2.5, float('nan'), True, '', 'x', b'x', [], [[1.0]], {}, (), object(), int, np.ones((1, 2, 3, 3)),
    np.float32(3), nn.Linear(1, 1), torch.float32, torch.Size((1, 2, 3, 3)), torch.device('cpu'), range(3), 2**70,
    Ellipsis, slice(None), lambda: None, np.array(None, dtype=object),
)  # fmt: skip
OTHER_DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.complex64, torch.complex128,
    torch.complex32, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32,
)  # fmt: skip


def refused(call: Call) -> Attempt:
    return Attempt(str(call), call, call.names, SENTENCE)


def right(call: Call, gradients: bool = False) -> Attempt:
    def run() -> None:
        y = call()
        check_forward(call, y)
        if gradients:
            check_gradients(call, y, torch.randn_like(y))

    return Attempt(str(call), run, call.names, WORKED)


# --- Valid calls


def valid(rng: random.Random, place: Place) -> Attempt:
    return right(draw_call(rng))


def valid_layouts(rng: random.Random, place: Place) -> Attempt:
    call = draw_call(rng)
    return right(call.mapped(lambda tensor: rng.choice(LAYOUTS)(rng, tensor)))


def valid_gradients(rng: random.Random, place: Place) -> Attempt:
    """Every combination of tensors that want a gradient; incoming gradients of any strides."""
    call = draw_call(rng)
    if call.backend == 'cpu/channels_last' or rng.random() < 0.3:
        # That algorithm has limits in its weight gradient; see the kind `backends`.
        call = call.changed(backend=None)
    call = call.mapped(lambda tensor: rng.choice(LAYOUTS)(rng, tensor).detach().requires_grad_(rng.random() < 0.6))

    def run() -> None:
        y = call()
        check_forward(call, y)
        check_gradients(call, y, rng.choice(LAYOUTS)(rng, torch.randn_like(y)))

    return Attempt(str(call), run, call.names, WORKED)


def valid_unusual(rng: random.Random, place: Place) -> Attempt:
    """Tensors that are computed as any other: parameters, subclasses, views with a negative bit, of inference mode."""
    call = draw_call(rng, rng.choice((torch.float32, torch.float64)))
    name = rng.choice(list(VALID_UNUSUAL))
    changed = call.mapped(lambda tensor: VALID_UNUSUAL[name](tensor) if rng.random() < 0.8 else tensor)

    def run() -> None:
        check_forward(call, changed().detach())

    return Attempt(f'{name}: {changed}', run, call.names, WORKED)


def nan_and_infinity(rng: random.Random, place: Place) -> Attempt:
    """They may spread over their channel and image, and nowhere else."""
    call = draw_call(rng, rng.choice((torch.float32, torch.float64)), smallest_batch=2)
    x = call.x.clone()
    image, channel = rng.randrange(x.shape[0]), rng.randrange(x.shape[1])
    value = rng.choice((float('nan'), float('inf'), -float('inf'), torch.finfo(x.dtype).max))
    x[image, channel, rng.randrange(x.shape[2]), rng.randrange(x.shape[3])] = value
    # Far from zero, so that the centre tap carries the value on.
    weight = call.weight.clone()
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = 100.0
    call = call.changed(x=x, weight=weight)

    def run() -> None:
        y = call()
        require(not torch.isfinite(y[image, channel]).all(), f'{value} has vanished')
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
        mask[image, channel] = False
        clean = x * mask.to(x.dtype)[:, :, None, None].nan_to_num()
        clean[image, channel] = 0
        expected = call.changed(x=clean)
        check_forward(expected, torch.where(mask[:, :, None, None], y, expected()))

    return Attempt(f'{value} in {call}', run, call.names, WORKED)


def autocast(rng: random.Random, place: Place) -> Attempt:
    """Under autocast dtypes may be mixed, but for float64 inputs."""
    low = rng.choice((torch.float16, torch.bfloat16))
    call = draw_call(rng, rng.choice(DTYPES), smallest_batch=1)
    mixed = [rng.choice(DTYPES[:3]) for _ in range(2)]
    if call.x.dtype != torch.float64:
        bias = None if call.bias is None else call.bias.to(mixed[1])
        call = call.changed(weight=call.weight.to(mixed[0]), bias=bias)

    def run() -> None:
        with torch.autocast('cpu', dtype=low):
            y = call()
        dtype = call.x.dtype if call.x.dtype == torch.float64 else low
        rounded = call.mapped(lambda tensor: tensor.to(dtype))
        check_forward(rounded, y)

    return Attempt(f'autocast {low}: {call}', run, call.names, WORKED)


def transforms(rng: random.Random, place: Place) -> Attempt:
    """torch.func, tracing, checkpointing, copying: right, or refused by name."""
    call = draw_call(rng, rng.choice((torch.float32, torch.float64)), smallest_batch=1)
    name = rng.choice(list(TRANSFORMS))
    transform = TRANSFORMS[name]
    return Attempt(f'{name}: {call}', lambda: transform(call), (*call.names, 'depthwise_conv2d', 'peripheral_conv2d'))


def meta_device(rng: random.Random, place: Place) -> Attempt:
    """Sizes that no memory holds, without memory."""
    peripheral = rng.random() < 0.4
    n, c, h, w = (rng.choice((1, 3, 640, 2**15 + 1, 2**20)) for _ in range(4))
    dtype = rng.choice(DTYPES)
    while n * c * h * w > 2**59:
        h, w = max(1, h // 64), max(1, w // 64)
    grid = (rng.randint(1, 1000), 1, 2) if peripheral else None
    edges = (3, 3) if peripheral else tuple(2 * rng.choice((0, 15, 500, 2**20)) + 1 for _ in range(2))
    c = min(c, 2**10)
    tensors = [torch.empty(shape, dtype=dtype, device='meta') for shape in ((n, c, h, w), (c, 1, *edges), (c,))]
    call = Call(*tensors, None, grid, peripheral)

    def run() -> None:
        y = call()
        require((y.shape, y.dtype, y.device) == (call.x.shape, dtype, call.x.device), f'the output is {shown(y)}')

    even = peripheral and sum(grid) % 2 == 0
    return Attempt(str(call), run, call.names, SENTENCE if even else WORKED)


def backends(rng: random.Random, place: Place) -> Attempt:
    """Forced backends do what was asked or say why not; the gradients too."""
    call = draw_call(rng, smallest_batch=1)
    names = ('reference', 'cpu', 'cpu/fft', 'cpu/contiguous', 'cpu/channels_last', 'triton')
    shared = ('dense', 'shared/cpu', 'shared/triton')
    call = call.changed(backend=rng.choice((*names, *(shared if call.peripheral else ()))))
    call = call.mapped(Tensor.requires_grad_)
    attempt = right(call, gradients=True)
    names = (*call.names, str(call.backend), 'depthwise_conv2d', 'peripheral_conv2d')
    return Attempt(attempt.what, attempt.run, names, SENTENCE if 'triton' in call.backend else None)


# --- Calls that have to be refused


def wrong_rank(rng: random.Random, place: Place) -> Attempt:
    call = draw_call(rng)
    name = rng.choice([name for name in ('x', 'weight', 'bias') if getattr(call, name) is not None])
    tensor = getattr(call, name)
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda t: t[None], lambda t: t[..., None], lambda t: t.sum(), lambda t: t[None, None], lambda t: t[:, None]
    ]  # fmt: skip
    if tensor.dim() > 1:
        changes += [lambda t: t.flatten(), lambda t: t.sum(0), lambda t: t.sum(-1), lambda t: t.sum((1, 2))]
    return refused(call.changed(**{name: rng.choice(changes)(tensor)}))


def wrong_dtype(rng: random.Random, place: Place) -> Attempt:
    """Of one tensor or of all: integers, complex numbers, 8-bit floats, and mixtures of types that work alone."""
    call = draw_call(rng, smallest_batch=1)
    if rng.random() < 0.4:
        name = rng.choice([name for name in ('x', 'weight', 'bias') if getattr(call, name) is not None])
        other = rng.choice([dtype for dtype in DTYPES if dtype != call.x.dtype])
        return refused(call.changed(**{name: getattr(call, name).to(other)}))
    dtype = rng.choice(OTHER_DTYPES)
    if rng.random() < 0.3:
        return refused(call.mapped(lambda tensor: tensor.float().to(dtype)))
    name = rng.choice([name for name in ('x', 'weight', 'bias') if getattr(call, name) is not None])
    return refused(call.changed(**{name: getattr(call, name).float().to(dtype)}))


def wrong_device(rng: random.Random, place: Place) -> Attempt:
    call = draw_call(rng)
    names = [name for name in ('x', 'weight', 'bias') if getattr(call, name) is not None]
    chosen = rng.sample(names, rng.randint(1, len(names) - 1))
    return refused(call.changed(**{name: getattr(call, name).to('meta') for name in chosen}))


def wrong_shape(rng: random.Random, place: Place) -> Attempt:
    """Even and empty kernels, other numbers of channels, dense kernels, maps without a pixel."""
    call = draw_call(rng)
    n, c, h, w = call.x.shape
    r, s = call.weight.shape[2:]
    options = dtype = dict(dtype=call.x.dtype)
    wrong = [
        dict(weight=torch.ones(c, 1, r + 1, s, **dtype)),
        dict(weight=torch.ones(c, 1, r, 0, **options)),
        dict(weight=torch.ones(c, 2, r, s, **options)),
        dict(weight=torch.ones(c, 0, r, s, **options)),
        dict(weight=torch.ones(c + 1, 1, r, s, **options)),
        dict(weight=torch.ones(0, 1, r, s, **options)),
        dict(weight=torch.ones(2 * c, 1, r, s, **options)),
        dict(x=torch.ones(n, c, 0, w, **options)),
        dict(x=torch.ones(n, c, h, 0, **options)),
        dict(x=torch.ones(n, c + 1, h, w, **options)),
        dict(x=torch.ones(n, 0, h, w, **options)),
        dict(bias=torch.ones(c + 1, **options)),
        dict(bias=torch.ones(0, **options)),
    ]
    return refused(call.changed(**rng.choice(wrong)))


def no_channels(rng: random.Random, place: Place) -> Attempt:
    """Nothing in, nothing out: 0 channels, 0 images."""
    call = draw_call(rng)
    n, _, h, w = call.x.shape
    bias = None if call.bias is None else call.bias[:0]
    call = call.changed(x=call.x.new_ones(rng.choice((0, n)), 0, h, w), weight=call.weight[:0], bias=bias, backend=None)
    call = call.mapped(lambda tensor: tensor.detach().requires_grad_(rng.random() < 0.5))

    def run() -> None:
        y = call()
        require((y.shape, y.dtype) == (call.x.shape, call.x.dtype), f'the output is {shown(y)}')
        leaves = [tensor for tensor in call.tensors if tensor.requires_grad]
        grads = torch.autograd.grad(y, leaves, torch.ones_like(y)) if leaves else ()
        require(all(a.shape == b.shape for a, b in zip(leaves, grads, strict=True)), 'a gradient has another shape')

    return Attempt(str(call), run, call.names, WORKED)


def no_tensor(rng: random.Random, place: Place) -> Attempt:
    call = draw_call(rng)
    name = rng.choice(('x', 'weight', 'bias'))
    value = rng.choice([value for value in OBJECTS if name != 'bias' or value is not None])
    if rng.random() < 0.2:
        value = getattr(call, name).tolist() if isinstance(getattr(call, name), Tensor) else [1.0]
    return refused(call.changed(**{name: value}))


def wrong_backend(rng: random.Random, place: Place) -> Attempt:
    values = [value for value in OBJECTS if value is not None]
    words = ['CPU', 'cuda', 'Reference', 'cpu/', '/fft', 'cpu/fft ', 'cpu\x00', 'triton\n', 'х' * 50, '*']
    call = draw_call(rng, smallest_batch=1)
    return refused(call.changed(backend=rng.choice(values + words)))


def wrong_grid(rng: random.Random, place: Place) -> Attempt:
    call = draw_call(rng, peripheral=True, smallest_batch=1, backend=False)
    grid = call.sharing_grid
    values = list(OBJECTS)
    values += [
        (*grid, 1), grid[:-1], (0, *grid[1:]), (-1, *grid[1:]), (*grid[:-1], grid[-1] + 1), tuple(map(float, grid)),
        tuple(map(str, grid)), tuple(f'{group}' for group in grid), torch.tensor(grid).float(), [list(grid)],
        dict.fromkeys(grid), (2**40, *grid[1:]), (2**15, *grid[1:]), (None,) * len(grid),
        (True,) * (len(grid) + 2), 'x' * len(grid), np.array(grid, dtype=float), (float('nan'),) * len(grid),
    ]  # fmt: skip
    value = rng.choice(values)
    return refused(call.changed(sharing_grid=value))


def odd_grid(rng: random.Random, place: Place) -> Attempt:
    """Grids as other containers of whole numbers, which may be taken or refused, but not misunderstood."""
    call = draw_call(rng, peripheral=True, backend=False)
    grid = call.sharing_grid
    kinds: list[Callable[[], Any]] = [
        lambda: list(grid), lambda: np.array(grid), lambda: torch.tensor(grid), lambda: iter(grid),
        lambda: torch.Size(grid), lambda: tuple(np.int64(group) for group in grid), lambda: (group for group in grid),
        lambda: bytes(grid),
    ]  # fmt: skip
    kind = rng.choice(kinds)
    given = call.changed(sharing_grid=kind())
    return Attempt(str(given), lambda: check_forward(call, given()), call.names)


def unusual_tensor(rng: random.Random, place: Place) -> Attempt:
    """Sparse, quantised, nested, oneDNN, complex conjugate, lazy, fake and functional tensors."""
    call = draw_call(rng, torch.float32, smallest_batch=1)
    name = rng.choice([name for name in ('x', 'weight', 'bias') if getattr(call, name) is not None])
    kind = rng.choice(list(UNUSUAL))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        changed = call.changed(**{name: UNUSUAL[kind](getattr(call, name))})
    # The values that it stands for.
    expected = call.changed(**{name: torch.zeros_like(getattr(call, name))}) if kind == 'zero tensor' else call
    return Attempt(f'{kind}: {changed}', lambda: check_forward(expected, changed()), call.names)


def several_mistakes(rng: random.Random, place: Place) -> Attempt:
    """Two to four changes at once, any of which may be harmless."""
    call = draw_call(rng)
    for _ in range(rng.randint(2, 4)):
        name = rng.choice(('x', 'weight', 'bias', 'backend', 'sharing_grid'))
        value = getattr(call, name)
        if isinstance(value, Tensor) and rng.random() < 0.7:
            changes = [
                lambda t: t.to(rng.choice(DTYPES + OTHER_DTYPES)), lambda t: t.to('meta'), lambda t: t[None],
                lambda t: t[:0], lambda t: t[:1], lambda t: t.T if t.dim() < 3 else t.mT, lambda t: t[..., :2],
                lambda t: t.expand(2, *t.shape), lambda t: t.detach().float().requires_grad_(),
            ]  # fmt: skip
            try:
                value = rng.choice(changes)(value)
            except (RuntimeError, IndexError, TypeError):
                # PyTorch cannot do that to what an earlier change left.
                continue
        else:
            value = rng.choice(OBJECTS)
        call = call.changed(**{name: value})
    return Attempt(str(call), call, call.names)


# --- Classes and functions above the ops


def layer_arguments(rng: random.Random, place: Place) -> Attempt:
    """One argument of ``LargeKernelConv2d`` that it may not take; where it does, it has to convolve."""
    names = ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'padding_mode')
    name = rng.choice((*names, 'bias', 'dtype', 'backend', 'device'))
    values = [
        *OBJECTS,
        2,
        3,
        4,
        1,
        (3, 3),
        (3, 4),
        (3, 3, 3),
        (0, 3),
        [5, 5],
        'same',
        'valid',
        'reflect',
        'zeros',
        'meta',
    ]
    # Whether there is a GPU with a number is not ours to say.
    value = rng.choice([value for value in values if name != 'device' or not isinstance(value, int)])
    arguments = dict(in_channels=4, out_channels=4, kernel_size=5) | {name: value}

    def run() -> None:
        layer = LargeKernelConv2d(**arguments)
        x = torch.randn(1, layer.in_channels, 7, 7, dtype=layer.weight.dtype, device=layer.weight.device)
        y = layer(x)
        require(y.shape == x.shape, f'the output is {shown(y)}')
        if x.device.type == 'cpu':
            check_forward(Call(x, layer.weight, layer.bias), y)

    return Attempt(f'LargeKernelConv2d({name}={shown(value)})', run, (name, 'x', 'weight', 'layer', *names))


def layer_inputs(rng: random.Random, place: Place) -> Attempt:
    """What a layer is called with: maps of other ranks, channels, types, and no tensors."""
    layer = LargeKernelConv2d(4, 4, (5, 3))
    values = [
        *OBJECTS, torch.ones(4, 6, 6), torch.ones(1, 4, 6, 6), torch.ones(4), torch.ones(1, 4, 6), torch.ones(5, 6, 6),
        torch.ones(1, 5, 6, 6), torch.ones(1, 4, 0, 6), torch.ones(0, 4, 6, 6), torch.ones(1, 4, 6, 6).int(),
        torch.ones(1, 4, 6, 6).double(), torch.ones(1, 4, 6, 6).half(), torch.ones(1, 4, 6, 6, device='meta'),
        torch.ones(1, 1, 4, 6, 6), torch.ones(()), torch.ones(0), torch.ones(4, 0, 0),
    ]  # fmt: skip
    value = rng.choice(values)

    def run() -> None:
        y = layer(value)
        require(y.shape == value.shape, f'the output is {shown(y)}')

    return Attempt(f'LargeKernelConv2d(4, 4, (5, 3))({shown(value)})', run, ('x', 'input', 'weight'))


def function_arguments(rng: random.Random, place: Place) -> Attempt:
    """``accelerate``, ``explain`` and ``default_backend``."""
    value = rng.choice((*OBJECTS, 'fast', 'cpu', 7, [nn.Conv2d(4, 4, 7, groups=4, padding=3)]))
    call = draw_call(rng, smallest_batch=1, peripheral=False, backend=False)
    model = nn.Sequential(nn.Conv2d(4, 4, 7, groups=4, padding=3))

    def backend() -> None:
        with default_backend(value):
            check_forward(call, call())

    which = {
        'accelerate(model)': (lambda: mmlk.accelerate(value), ('model',)),
        'accelerate(min_kernel)': (lambda: mmlk.accelerate(model, min_kernel=value), ('min_kernel',)),
        'accelerate(backend)': (lambda: mmlk.accelerate(model, backend=value), ('backend',)),
        'explain(x)': (lambda: explain(value, call.weight), ('x',)),
        'explain(backend)': (lambda: explain(call.x, call.weight, backend=value), ('backend',)),
        'default_backend': (backend, ('name', 'backend')),
    }
    name = rng.choice(list(which))
    run, names = which[name]
    return Attempt(f'{name} = {shown(value)}', run, names)


def model_arguments(rng: random.Random, place: Place) -> Attempt:
    """``create_model``: names, numbers and settings that do not exist."""
    values = [*OBJECTS, -5, 7, 'none.pth', Path('none.pth'), (0, 9), [-9], 'dense', 'auto', 'sideways']
    name = rng.choice(
        ('name', 'pretrained', 'num_classes', 'out_indices', 'in_chans', 'drop_rate', 'deploy', 'drop_path_rate',
         'kernel_size', 'no_such_setting', 'norm_cfg', 'pattern')
    )  # fmt: skip
    value = rng.choice(values)
    arguments: dict[str, Any] = dict(name='unireplknet_a', num_classes=3)
    if name == 'out_indices':
        arguments |= dict(features_only=True)
    if name == 'kernel_size':
        arguments |= dict(name='pelk_t')
    if name == 'drop_path_rate':
        arguments |= dict(name='slak_t')
    arguments |= {name: value}

    def run() -> None:
        if name == 'pattern':
            require(set(mmlk.list_models(value)) <= set(mmlk.list_models()), 'a name that does not exist')
            return
        model = mmlk.create_model(**arguments)
        y = model.eval()(torch.randn(1, arguments.get('in_chans', 3), 64, 64))
        require(len(y) > 0, 'nothing came out')

    return Attempt(f'create_model({name}={shown(value)})', run, (name, 'in_channels', 'weights', 'name of a model'))


def prepare(folder: Path) -> None:
    """Import once, before the first fork, what cases import."""
    exported(draw_call(random.Random(0), torch.float32, peripheral=False, smallest_batch=2))
    mmlk.create_model('unireplknet_a', num_classes=2)


CAMPAIGN = Campaign(
    'ops',
    {
        'valid calls': valid,
        'valid calls, any layout': valid_layouts,
        'valid calls, gradients': valid_gradients,
        'valid calls, unusual tensors': valid_unusual,
        'NaN and infinity': nan_and_infinity,
        'autocast': autocast,
        'torch.func and tracing': transforms,
        'huge sizes on meta': meta_device,
        'forced backends': backends,
        'wrong rank': wrong_rank,
        'wrong dtype': wrong_dtype,
        'wrong device': wrong_device,
        'wrong shape': wrong_shape,
        'no channels': no_channels,
        'no tensor': no_tensor,
        'unknown backend': wrong_backend,
        'wrong sharing grid': wrong_grid,
        'unusual sharing grid': odd_grid,
        'tensors of another kind': unusual_tensor,
        'several mistakes': several_mistakes,
        'layer arguments': layer_arguments,
        'layer inputs': layer_inputs,
        'accelerate, explain, default_backend': function_arguments,
        'create_model': model_arguments,
    },
    cases=1008,
    prepare=prepare,
)
