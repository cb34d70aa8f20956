"""UniRepLKNet restated plainly, on state dicts with the authors' names: an oracle that shares no code with mmlk."""

import torch
from torch import Tensor
from torch.nn import functional as F

#: The authors' (k, dilation) per K.
DILATED = {
    7: [(5, 1), (3, 2), (3, 3)],
    9: [(5, 1), (5, 2), (3, 3), (3, 4)],
    13: [(5, 1), (7, 2), (3, 3), (3, 4), (3, 5)],
}


def authors_shapes(depths, channels, kernels, merged=False, classes=None) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the authors' state dict.

    Args:
        kernels: Per stage, the kernel of each block.
        merged: The merged form.
        classes: Classes of a classifier; ``None`` for a downstream backbone.
    """
    shapes = {}

    def affine(key, *weight):
        shapes[f'{key}.weight'] = weight
        shapes[f'{key}.bias'] = weight[:1]

    def batch_norm(key, c):
        affine(key, c)
        shapes[f'{key}.running_mean'] = shapes[f'{key}.running_var'] = (c,)
        shapes[f'{key}.num_batches_tracked'] = ()

    affine('downsample_layers.0.0', channels[0] // 2, 3, 3, 3)
    affine('downsample_layers.0.1', channels[0] // 2)
    affine('downsample_layers.0.3', channels[0], channels[0] // 2, 3, 3)
    affine('downsample_layers.0.4', channels[0])
    for s in range(4):
        c = channels[s]
        if s:
            affine(f'downsample_layers.{s}.0', c, channels[s - 1], 3, 3)
            affine(f'downsample_layers.{s}.1', c)
        for b in range(depths[s]):
            block, k = f'stages.{s}.{b}', kernels[s][b]
            large = f'{block}.dwconv.lk_origin' if k >= 7 else f'{block}.dwconv'
            if merged:
                affine(large, c, 1, k, k)
                affine(f'{block}.pwconv2.0', c, 4 * c)
            else:
                shapes[f'{large}.weight'] = (c, 1, k, k)
                if k >= 7:
                    batch_norm(f'{block}.dwconv.origin_bn', c)
                    for small, dilation in DILATED[k]:
                        shapes[f'{block}.dwconv.dil_conv_k{small}_{dilation}.weight'] = (c, 1, small, small)
                        batch_norm(f'{block}.dwconv.dil_bn_k{small}_{dilation}', c)
                batch_norm(f'{block}.norm', c)
                shapes[f'{block}.act.1.beta'] = (1, 1, 1, 4 * c)
                shapes[f'{block}.pwconv2.0.weight'] = (c, 4 * c)
                batch_norm(f'{block}.pwconv2.2', c)
                shapes[f'{block}.gamma'] = (c,)
            affine(f'{block}.se.down', c // 4, c, 1, 1)
            affine(f'{block}.se.up', c, c // 4, 1, 1)
            affine(f'{block}.pwconv1.1', 4 * c, c)
            shapes[f'{block}.act.1.gamma'] = (1, 1, 1, 4 * c)
        if classes is None:
            affine(f'norm{s}', c)
    if classes is not None:
        affine('norm', channels[-1])
        affine('head', classes, channels[-1])
    return shapes


def random_state(shapes, dtype=torch.float64) -> dict[str, Tensor]:
    """Values as after training, none of them neutral."""
    state = {}
    for key, shape in shapes.items():
        if key.endswith('num_batches_tracked'):
            state[key] = torch.tensor(7)
        elif key.endswith('running_var'):
            state[key] = torch.rand(shape, dtype=dtype) * 2 + 0.3
        elif len(shape) == 1 or 'act.1' in key:
            offset = 1.0 if key.endswith(('weight', 'gamma')) else 0.0
            state[key] = torch.randn(shape, dtype=dtype) * 0.3 + offset
        else:
            state[key] = torch.randn(shape, dtype=dtype) / torch.Size(shape[1:]).numel() ** 0.5
    return state


def batch_norm(p, key, x, training=False):
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        mean, var = p[f'{key}.running_mean'], p[f'{key}.running_var']
    scale = p[f'{key}.weight'] / (var + 1e-5).sqrt()
    return x * scale[:, None, None] + (p[f'{key}.bias'] - mean * scale)[:, None, None]


def layer_norm(p, key, x):
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    x = (x - mean) / (variance + 1e-6).sqrt()
    return x * p[f'{key}.weight'][:, None, None] + p[f'{key}.bias'][:, None, None]


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def depthwise(x, weight, dilation=1):
    """One shifted copy of the map per tap."""
    k = weight.shape[-1]
    reach = dilation * (k // 2)
    padded = F.pad(x, (reach,) * 4)
    out = torch.zeros_like(x)
    for i in range(k):
        for j in range(k):
            top, left = i * dilation, j * dilation
            out = out + weight[:, 0, i, j, None, None] * padded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return out


def block(p, key, x, training=False):
    """One block in train form."""
    if f'{key}.dwconv.weight' in p:
        y = depthwise(x, p[f'{key}.dwconv.weight'])
    else:
        large = p[f'{key}.dwconv.lk_origin.weight']
        y = batch_norm(p, f'{key}.dwconv.origin_bn', depthwise(x, large), training)
        for k, r in DILATED[large.shape[-1]]:
            small = depthwise(x, p[f'{key}.dwconv.dil_conv_k{k}_{r}.weight'], r)
            y = y + batch_norm(p, f'{key}.dwconv.dil_bn_k{k}_{r}', small, training)
    y = batch_norm(p, f'{key}.norm', y, training)
    squeezed = y.mean((2, 3))
    squeezed = (squeezed @ p[f'{key}.se.down.weight'][:, :, 0, 0].T + p[f'{key}.se.down.bias']).clamp(min=0)
    squeezed = squeezed @ p[f'{key}.se.up.weight'][:, :, 0, 0].T + p[f'{key}.se.up.bias']
    y = y * (1 / (1 + torch.exp(-squeezed)))[:, :, None, None]
    y = torch.einsum('nchw,dc->nhwd', y, p[f'{key}.pwconv1.1.weight']) + p[f'{key}.pwconv1.1.bias']
    y = gelu(y)
    response = y.square().sum((1, 2), keepdim=True).sqrt()
    response = response / (response.mean(3, keepdim=True) + 1e-6)
    y = (p[f'{key}.act.1.gamma'] * response + 1) * y + p[f'{key}.act.1.beta']
    y = torch.einsum('nhwd,cd->nchw', y, p[f'{key}.pwconv2.0.weight'])
    y = batch_norm(p, f'{key}.pwconv2.2', y, training)
    return x + p[f'{key}.gamma'][:, None, None] * y


def network(p, x, depths, training=False) -> list[Tensor]:
    """The four maps of a downstream backbone, or the logits of a classifier, in train form."""
    maps = []
    for s in range(4):
        down = f'downsample_layers.{s}'
        x = F.conv2d(x, p[f'{down}.0.weight'], p[f'{down}.0.bias'], stride=2, padding=1)
        x = layer_norm(p, f'{down}.1', x)
        if s == 0:
            x = F.conv2d(gelu(x), p[f'{down}.3.weight'], p[f'{down}.3.bias'], stride=2, padding=1)
            x = layer_norm(p, f'{down}.4', x)
        for b in range(depths[s]):
            x = block(p, f'stages.{s}.{b}', x, training)
        maps.append(x)
    if 'head.weight' in p:
        vector = layer_norm(p, 'norm', x.mean((2, 3), keepdim=True))[:, :, 0, 0]
        return [vector @ p['head.weight'].T + p['head.bias']]
    return [layer_norm(p, f'norm{s}', x) for s, x in enumerate(maps)]


def merge(p) -> dict[str, Tensor]:
    """The authors' merged state dict, tap by tap from the algebra of the merge."""
    merged = dict(p)

    def scale_and_shift(key):
        scale = p[f'{key}.weight'] / (p[f'{key}.running_var'] + 1e-5).sqrt()
        shift = p[f'{key}.bias'] - p[f'{key}.running_mean'] * scale
        for name in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'):
            del merged[f'{key}.{name}']
        return scale, shift

    for key in [key.removesuffix('.gamma') for key in p if key.endswith('.gamma') and 'act' not in key]:
        large = f'{key}.dwconv' if f'{key}.dwconv.weight' in p else f'{key}.dwconv.lk_origin'
        kernel = p[f'{large}.weight'].clone()
        bias = torch.zeros(len(kernel), dtype=kernel.dtype)
        if large.endswith('lk_origin'):
            scale, bias = scale_and_shift(f'{key}.dwconv.origin_bn')
            kernel *= scale[:, None, None, None]
            centre = kernel.shape[-1] // 2
            for k, r in DILATED[kernel.shape[-1]]:
                small = merged.pop(f'{key}.dwconv.dil_conv_k{k}_{r}.weight')
                scale, shift = scale_and_shift(f'{key}.dwconv.dil_bn_k{k}_{r}')
                for i in range(k):
                    for j in range(k):
                        row, column = centre + r * (i - k // 2), centre + r * (j - k // 2)
                        kernel[:, 0, row, column] += scale * small[:, 0, i, j]
                bias = bias + shift
        scale, shift = scale_and_shift(f'{key}.norm')
        merged[f'{large}.weight'] = kernel * scale[:, None, None, None]
        merged[f'{large}.bias'] = bias * scale + shift
        scale, shift = scale_and_shift(f'{key}.pwconv2.2')
        weight, layer_scale = p[f'{key}.pwconv2.0.weight'], merged.pop(f'{key}.gamma')
        beta = merged.pop(f'{key}.act.1.beta').flatten()
        merged[f'{key}.pwconv2.0.weight'] = (layer_scale * scale)[:, None] * weight
        merged[f'{key}.pwconv2.0.bias'] = layer_scale * (shift + scale * (weight @ beta))
    return merged
