"""Checks of the Triton kernels that run alike in Triton's interpreter (on the CPU) and on a GPU.

``python tests/ops/triton_checks.py --device cpu`` runs them in the interpreter, which must be switched on before the
kernels are imported: hence a process of its own. It prints one line of JSON per check: its name, its worst errors, and
the failure if there was one.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from numerics import TOLERANCE, relative_error

from mmlk.ops.depthwise_conv2d import reference, triton_op, triton_tiles
from mmlk.ops.depthwise_conv2d.triton_tiles import band_tiles, weight_tiles
from mmlk.ops.peripheral_conv2d import triton_op as peripheral
from ops.cases import CASES, case_id

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16, 'float32': torch.float32}
LAYOUTS = ('contiguous', 'channels_last', 'sliced', 'transposed', 'strided')
#: Shapes with the tile sizes of real networks; too slow for the interpreter.
GPU_CASES = [
    (8, 16, 56, 56, 31, 31),
    (64, 8, 28, 28, 29, 29),
    (64, 8, 14, 14, 27, 27),
    (64, 16, 7, 7, 13, 13),
    (4, 8, 128, 128, 51, 51),
    (2, 4, 128, 128, 101, 101),
    (2, 4, 40, 200, 151, 151),
    (3, 4, 200, 37, 51, 5),
    (3, 4, 37, 200, 5, 51),
    (8, 16, 56, 56, 3, 3),
    (1, 6, 65, 129, 7, 9),
]
#: Maps and sharing grids; a grid need not be symmetric.
PERIPHERAL_CASES = [
    ((2, 2, 9, 16), (3, 2, 1, 1, 1, 2, 3)),
    ((1, 1, 14, 13), (7, 4, 2, 1, 1, 1, 1, 1, 2, 4, 7)),
    ((2, 1, 1, 1), (2, 1, 4)),
    ((0, 2, 4, 4), (2, 1, 2)),
]
PERIPHERAL_GPU_CASES = [
    ((8, 16, 56, 56), (9, 8, 4, 2, 1, 1, 1, 1, 1, 2, 4, 8, 9)),
    ((2, 4, 128, 128), (17, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 17)),
]


def make(case, dtype, device, layout='contiguous'):
    """Input, kernels, bias and output gradient; the two maps in the given layout."""
    n, c, h, w, r, s = case
    maps = []
    for _ in range(2):
        if layout == 'sliced':  # rows start at odd addresses, every stride is that of a larger tensor
            x = torch.randn(n, c + 2, h + 3, w + 6, device=device, dtype=dtype)[:, 1 : c + 1, 2 : h + 2, 5 : w + 5]
        elif layout == 'transposed':
            x = torch.randn(n, c, w, h, device=device, dtype=dtype).mT
        elif layout == 'strided':
            x = torch.randn(n, c, h, 2 * w, device=device, dtype=dtype)[..., ::2]
        else:
            x = torch.randn(n, c, h, w, device=device, dtype=dtype)
        maps.append(x.to(memory_format=torch.channels_last) if layout == 'channels_last' else x)
    weight = torch.randn(c, 1, r, s, device=device, dtype=dtype)
    return maps[0], weight, torch.randn(c, device=device, dtype=dtype), maps[1]


def errors(actual, x, weight, bias, grad) -> dict[str, float]:
    """Relative error of (output, input gradient, weight gradient) against the reference in float64 on the CPU."""
    x, weight, bias, grad = (tensor.detach().cpu().double() for tensor in (x, weight, bias, grad))
    expected = {
        'forward': reference.forward(x, weight, bias),
        'grad_input': reference.grad_input(grad, x, weight),
        'grad_weight': reference.grad_weight(grad, x, weight),
    }
    return {name: relative_error(a.cpu(), e) for a, (name, e) in zip(actual, expected.items(), strict=True)}


def check_case(case, dtype, device, layout='contiguous'):
    """All three passes: values, dtype, memory format; weight gradient bitwise equal on a second run."""
    x, weight, bias, grad = make(case, dtype, device, layout)
    assert triton_op.why_not(x, weight) is None, triton_op.why_not(x, weight)
    y = triton_op.forward(x, weight, bias)
    dx = triton_op.grad_input(grad, x, weight)
    dw = triton_op.grad_weight(grad, x, weight)
    assert y.dtype == dx.dtype == dw.dtype == dtype
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    for result in (y, dx):
        assert result.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert dw.is_contiguous()
    if layout != 'contiguous' or x.is_cuda:
        assert torch.equal(dw, triton_op.grad_weight(grad, x, weight)), 'two runs of the weight gradient differ'
    found = errors((y, dx, dw), x, weight, bias, grad)
    for name, error in found.items():
        assert error <= TOLERANCE[dtype], f'{name}: relative error {error:.3g} exceeds {TOLERANCE[dtype]:.3g}'
    return found


def check_expanded_gradient(device):
    """The gradient of a sum has stride 0 everywhere; a bias may be every second element of something."""
    x, weight, _, grad = make((2, 2, 9, 11, 3, 5), torch.float32, device)
    grad = torch.ones((), device=device).expand(grad.shape)
    bias = torch.randn(4, device=device)[::2]
    forward = triton_op.forward(x, weight, bias)
    actual = forward, triton_op.grad_input(grad, x, weight), triton_op.grad_weight(grad, x, weight)
    found = errors(actual, x, weight, bias, grad)
    assert max(found.values()) <= TOLERANCE[torch.float32], found
    return found


def check_hand_computed(device):
    """Numbers worked out by hand: neighbours weighted 1, 10 and 100, offset 0.5."""
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=device).reshape(1, 1, 2, 3)
    weight = torch.tensor([1.0, 10.0, 100.0], device=device).reshape(1, 1, 1, 3)
    bias = torch.tensor([0.5], device=device)
    row = triton_op.forward(x, weight, bias)
    assert row.flatten().tolist() == [210.5, 321.5, 32.5, 540.5, 654.5, 65.5], row
    column = triton_op.forward(x, weight.mT, bias)
    assert column.flatten().tolist() == [410.5, 520.5, 630.5, 41.5, 52.5, 63.5], column
    # The tap left of the centre saw 0 1 2 | 0 4 5, the centre the map itself, the tap right of it 2 3 0 | 5 6 0.
    grad = triton_op.grad_weight(x, x, weight)
    assert grad.flatten().tolist() == [2 + 6 + 20 + 30, 1 + 4 + 9 + 16 + 25 + 36, 2 + 6 + 20 + 30], grad
    return {}


def check_tiles(device, case, dtype, count):
    """``count`` tile sizes from the whole list of candidates give one result: tuning changes no more than rounding."""
    x, weight, bias, grad = make(case, dtype, device)
    shape = triton_op._shape(x, triton_op._crop(x, weight))
    worst = dict.fromkeys(('forward', 'grad_input', 'grad_weight'), 0.0)
    for i in range(count):
        y, dx, dw = (torch.full_like(tensor, torch.nan) for tensor in (x, x, weight))
        forward, backward = (tiles[i * len(tiles) // count] for tiles in (band_tiles(shape), weight_tiles(shape)))
        triton_op._band_launch(shape, forward, x, weight, bias, y, flip=False)
        triton_op._band_launch(shape, forward, grad, weight, torch.zeros_like(bias), dx, flip=True)
        # More splits than the heuristics choose for so few steps, some of them empty.
        triton_op._weight_launch(shape, backward._replace(splits=1 + 2 * (i % 3)), x, grad, dw)
        found = errors((y, dx, dw), x, weight, bias, grad)
        assert max(found.values()) <= TOLERANCE[dtype], f'{found} with {forward} and {backward}'
        worst = {name: max(worst[name], found[name]) for name in found}
    return worst


def check_peripheral(case, grid, dtype, device, layout='contiguous'):
    """Rows collapsed by a sharing grid, against the reference with the expanded kernel."""
    x, theta, bias, grad = make((*case, len(grid), len(grid)), dtype, device, layout)
    assert peripheral.why_not(x, theta, grid) is None
    y = peripheral.forward(x, theta, bias, grid)
    dx = peripheral.grad_input(grad, x, theta, grid)
    dtheta = peripheral.grad_weight(grad, x, theta, grid)
    assert y.dtype == dx.dtype == dtheta.dtype == dtype
    x, theta, bias, grad = (tensor.cpu().double() for tensor in (x, theta, bias, grad))
    repeats = torch.tensor(grid)
    weight = theta.repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)
    dense = reference.grad_weight(grad, x, weight)
    rows = torch.stack([rows.sum(2) for rows in dense.split(grid, 2)], 2)
    expected = {
        'forward': (y, reference.forward(x, weight, bias)),
        'grad_input': (dx, reference.grad_input(grad, x, weight)),
        'grad_weight': (dtheta, torch.stack([columns.sum(3) for columns in rows.split(grid, 3)], 3)),
    }
    found = {name: relative_error(a.cpu(), e) for name, (a, e) in expected.items()}
    assert max(found.values()) <= TOLERANCE[dtype], found
    return found


def checks(device, dtypes=None):
    """Name and function of every check for one device, of all dtypes that it computes unless some are given."""
    dtypes = dtypes or (('float16', 'float32') if device == 'cpu' else tuple(DTYPES))
    for dtype in dtypes:
        for n, c, *rest in CASES:
            # The interpreter runs program after program: two channels show what eight would.
            case = (n, min(c, 2) if device == 'cpu' else c, *rest)
            yield f'{case_id(case)}-{dtype}', lambda case=case, t=DTYPES[dtype]: check_case(case, t, device)
        for layout in LAYOUTS:
            case = (2, 3, 6, 10, 3, 7)
            name = f'{layout}-{case_id(case)}-{dtype}'
            yield name, lambda t=DTYPES[dtype], layout=layout: check_case((2, 3, 6, 10, 3, 7), t, device, layout)
        if device != 'cpu':
            for case in GPU_CASES:
                yield f'{case_id(case)}-{dtype}', lambda case=case, t=DTYPES[dtype]: check_case(case, t, device)
        case, count = ((1, 1, 9, 20, 5, 7), 6) if device == 'cpu' else ((8, 4, 40, 56, 31, 29), 10)
        yield f'tiles-{dtype}', lambda t=DTYPES[dtype], case=case, n=count: check_tiles(device, case, t, n)
        for case, grid in PERIPHERAL_CASES if device == 'cpu' else PERIPHERAL_CASES + PERIPHERAL_GPU_CASES:
            for layout in LAYOUTS[:3] if len(grid) < 9 else LAYOUTS[:1]:
                name = f'peripheral-{layout}-{"x".join(map(str, case))}-{"_".join(map(str, grid))}-{dtype}'
                arguments = case, grid, DTYPES[dtype], device, layout
                yield name, lambda arguments=arguments: check_peripheral(*arguments)
    if 'float32' in dtypes:
        yield 'hand_computed', lambda: check_hand_computed(device)
        yield 'expanded_gradient', lambda: check_expanded_gradient(device)


def fill_with_nan() -> None:
    """Let every buffer of the launchers start as NaN, so that an element which no kernel writes shows."""
    triton_op._empty = lambda shape, dtype, device: torch.full(shape, torch.nan, dtype=dtype, device=device)


def fix_interpreter() -> None:
    """Let a loop bound that is computed in a kernel be an integer.

    Triton 3.6 converts it by ``int(array)`` of an array with one element and one axis, which NumPy 2.4 refuses.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_with_index(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, '__index__', lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_with_index


def main() -> None:
    parser = argparse.ArgumentParser(description='Check the Triton kernels.')
    parser.add_argument('--device', choices=('cpu', 'cuda'), required=True)
    parser.add_argument('--dtype', nargs='+', choices=DTYPES, help='only these')
    args = parser.parse_args()
    assert 'triton' not in sys.modules, 'the launchers must not import triton before they run'
    if args.device == 'cpu':
        os.environ['TRITON_INTERPRET'] = '1'
        fix_interpreter()
        # It runs one program after the other: few large tiles, not enough for a whole GPU.
        triton_tiles.MULTIPROCESSORS = 1
    fill_with_nan()
    failed = False
    for name, check in checks(args.device, args.dtype):
        torch.manual_seed(0)
        start = time.perf_counter()
        try:
            row = {'errors': check()}
        except Exception as error:  # one failing check must not hide the others
            row = {'failure': f'{type(error).__name__}: {error}'}
            failed = True
        seconds = round(time.perf_counter() - start, 2)
        print(json.dumps({'check': name, 'seconds': seconds, **row}), flush=True)
    raise SystemExit(failed)


if __name__ == '__main__':
    main()
