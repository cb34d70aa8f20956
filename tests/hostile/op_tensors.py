"""Tensors that are laid out, wrapped or transformed in every way PyTorch has."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import torch
from hostile.op_calls import Call, check, check_forward, require
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint


class Named(Tensor):
    """A subclass that does nothing of its own."""


class FunctionMode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class DispatchMode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


# --- Other strides, same values


def sliced(rng: random.Random, tensor: Tensor) -> Tensor:
    """Cut out of a larger tensor, with an offset and gaps along every dimension."""
    steps = [rng.randint(1, 3) for _ in tensor.shape]
    offsets = [rng.randint(0, 2) for _ in tensor.shape]
    large = tensor.new_full(
        [size * step + offset for size, step, offset in zip(tensor.shape, steps, offsets)], float('nan')
    )
    index = tuple(slice(offset, offset + size * step, step) for size, step, offset in zip(tensor.shape, steps, offsets))
    large[index] = tensor.detach()
    return large[index]


def permuted(rng: random.Random, tensor: Tensor) -> Tensor:
    """Stored with its dimensions in another order."""
    order = list(range(tensor.dim()))
    rng.shuffle(order)
    back = [order.index(dim) for dim in range(tensor.dim())]
    return tensor.detach().permute(order).contiguous().permute(back)


def expanded(rng: random.Random, tensor: Tensor) -> Tensor:
    """With stride 0 along some dimensions; the values are those of the first element there."""
    for dim in range(tensor.dim()):
        if rng.random() < 0.4 and tensor.shape[dim]:
            tensor = tensor.narrow(dim, 0, 1).expand_as(tensor)
    return tensor


def channels_last(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def flipped(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.flip(*range(tensor.dim()))


def overlapping(rng: random.Random, tensor: Tensor) -> Tensor:
    """Windows of one row of numbers."""
    strides = [rng.randint(1, 3) for _ in tensor.shape]
    length = 1 + sum(max(0, size - 1) * stride for size, stride in zip(tensor.shape, strides))
    return torch.randn(length, dtype=tensor.dtype).as_strided(tensor.shape, strides)


LAYOUTS: tuple[Callable[[random.Random, Tensor], Tensor], ...] = (
    lambda rng, tensor: tensor, sliced, permuted, expanded, channels_last, flipped, overlapping,
)  # fmt: skip

# --- Tensors that compute as any other


def negative_view(tensor: Tensor) -> Tensor:
    """The same values with the lazy negative bit set."""
    return torch.view_as_complex(torch.stack((tensor, -tensor), -1)).conj().imag


def of_inference(tensor: Tensor) -> Tensor:
    with torch.inference_mode():
        return tensor.clone()


VALID_UNUSUAL: dict[str, Callable[[Tensor], Tensor]] = {
    'parameter': nn.Parameter,
    'buffer': nn.Buffer,
    'subclass': lambda tensor: tensor.as_subclass(Named),
    'negative bit': negative_view,
    'real part': lambda tensor: torch.complex(tensor, tensor).real,
    'inference mode': of_inference,
    'pinned by numpy': lambda tensor: torch.from_numpy(tensor.numpy()),
    'in shared memory': lambda tensor: tensor.clone().share_memory_(),
    'of a graph': lambda tensor: tensor.clone().requires_grad_() * 1,
}

# --- Tensors of another kind

UNUSUAL: dict[str, Callable[[Tensor], Tensor]] = {
    'sparse COO': Tensor.to_sparse,
    'sparse CSR': lambda tensor: tensor.reshape(tensor.shape[0], -1).to_sparse_csr(),
    'sparse BSR': lambda tensor: tensor.reshape(-1, 1).to_sparse_bsr((1, 1)),
    'hybrid sparse': lambda tensor: tensor.to_sparse(1),
    'oneDNN': Tensor.to_mkldnn,
    'quantised': lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    'conjugate': lambda tensor: torch.complex(tensor, tensor).conj(),
    'nested': lambda tensor: torch.nested.nested_tensor(list(tensor)),
    'jagged': lambda tensor: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged),
    'zero tensor': lambda tensor: torch._efficientzerotensor(tensor.shape),
    'masked': lambda tensor: torch.masked.masked_tensor(tensor, torch.ones_like(tensor, dtype=torch.bool)),
    'uninitialised parameter': lambda tensor: nn.UninitializedParameter(),
    'named dimensions': lambda tensor: tensor.refine_names(*'ABCD'[: tensor.dim()]),
    'functional': torch._to_functional_tensor,
    'forward-mode level ended': lambda tensor: _dual(tensor),
    'storage freed': lambda tensor: _freed(tensor),
}


def _dual(tensor: Tensor) -> Tensor:
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.make_dual(tensor, torch.ones_like(tensor))


def _freed(tensor: Tensor) -> Tensor:
    """As fully sharded data parallel leaves parameters between their uses."""
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


# --- What is done to a call


def vmap(call: Call) -> None:
    """Over a new first dimension of the maps."""
    twice = torch.stack((call.x, 2 * call.x))
    y = torch.func.vmap(lambda x: call.changed(x=x)())(twice)
    for x, part in zip(twice, y):
        check_forward(call.changed(x=x), part)


def vmap_of_everything(call: Call) -> None:
    """Over maps and kernels: each map has its own kernels."""
    both = call.mapped(lambda tensor: torch.stack((tensor, 2 * tensor)))
    y = torch.func.vmap(lambda *tensors: call.changed(**_named(call, tensors))())(*both.tensors)
    for index, part in enumerate(y):
        check_forward(both.mapped(lambda tensor, index=index: tensor[index]), part)


def _named(call: Call, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(('x', 'weight', 'bias'), tensors))


def func_grad(call: Call) -> None:
    """torch.func.grad equals autograd of the reference."""
    gradient = torch.func.grad(lambda x: call.changed(x=x)().sum())(call.x)
    x = call.x.clone().requires_grad_()
    expected = call.changed(x=x, backend='reference')().sum()
    (expected,) = torch.autograd.grad(expected, x)
    check(gradient, expected.double(), expected.double(), call.x.dtype, 'the gradient')


def func_grad_of_weight(call: Call) -> None:
    gradient = torch.func.grad(lambda weight: call.changed(weight=weight)().square().sum())(call.weight)
    weight = call.weight.clone().requires_grad_()
    (expected,) = torch.autograd.grad(call.changed(weight=weight, backend='reference')().square().sum(), weight)
    check(gradient, expected.double(), expected.double(), torch.float32, 'the gradient')


def jvp(call: Call) -> None:
    """Forward mode: linear in the map."""
    tangent = torch.randn_like(call.x)
    _, y = torch.func.jvp(lambda x: call.changed(x=x)(), (call.x,), (tangent,))
    check_forward(call.changed(x=tangent, bias=None), y)


def second_derivative(call: Call) -> None:
    x = call.x.clone().requires_grad_()
    (first,) = torch.autograd.grad(call.changed(x=x)().square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    wide = call.x.double().requires_grad_()
    reference = call.mapped(Tensor.double).changed(x=wide, backend='reference')
    (first,) = torch.autograd.grad(reference().square().sum(), wide, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), wide)
    check(second, expected, expected, torch.bfloat16, 'the second derivative')


def traced(call: Call) -> None:
    graph = make_fx(lambda x: call.changed(x=x)())(call.x)
    check_forward(call.changed(x=2 * call.x), graph(2 * call.x))


def exported(call: Call) -> None:
    class Model(nn.Module):
        def forward(self, x):
            return call.changed(x=x)()

    program = torch.export.export(Model(), (call.x,))
    check_forward(call.changed(x=2 * call.x), program.module()(2 * call.x))


def jit_traced(call: Call) -> None:
    graph = torch.jit.trace(lambda x: call.changed(x=x)(), (call.x,), check_trace=False)
    check_forward(call.changed(x=2 * call.x), graph(2 * call.x))


def checkpointed(call: Call) -> None:
    x = call.x.clone().requires_grad_()
    y = checkpoint(lambda x: call.changed(x=x)(), x, use_reentrant=False)
    check_forward(call, y)
    (actual,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(call.changed(x=x)().sum(), x)
    require(torch.equal(actual, expected), 'the gradient differs from that without checkpointing')


def under_modes(call: Call) -> None:
    with FunctionMode(), DispatchMode():
        check_forward(call, call())


def deterministic(call: Call) -> None:
    torch.use_deterministic_algorithms(True)
    check_forward(call, call())


def deep_copied(call: Call) -> None:
    check_forward(call, copy.deepcopy(call)())


def in_inference_mode(call: Call) -> None:
    with torch.inference_mode():
        check_forward(call, call())


def out_of_inference_mode(call: Call) -> None:
    """A tensor made in inference mode, in a graph that wants gradients of the kernels."""
    weight = call.weight.clone().requires_grad_()
    y = call.changed(x=of_inference(call.x), weight=weight)()
    check_forward(call, y)


def faked(call: Call) -> None:
    """Shapes alone."""
    mode = FakeTensorMode()
    fake = call.mapped(mode.from_tensor)
    with mode:
        y = fake()
    require((y.shape, y.dtype, y.device) == (call.x.shape, call.x.dtype, call.x.device), f'the output is {y}')


TRANSFORMS: dict[str, Callable[[Call], None]] = {
    'vmap': vmap,
    'vmap of everything': vmap_of_everything,
    'torch.func.grad': func_grad,
    'torch.func.grad of the weight': func_grad_of_weight,
    'torch.func.jvp': jvp,
    'second derivative': second_derivative,
    'make_fx': traced,
    'torch.export': exported,
    'torch.jit.trace': jit_traced,
    'fake tensors': faked,
    'checkpoint': checkpointed,
    'function and dispatch modes': under_modes,
    'deterministic algorithms': deterministic,
    'deep copy': deep_copied,
    'inference mode': in_inference_mode,
    'tensor of inference mode': out_of_inference_mode,
}
