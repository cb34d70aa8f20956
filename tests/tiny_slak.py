"""A SLaK small enough to write to files: the authors' state dicts in every form, and our configs that take them."""

import torch
from mmengine.registry import MODELS

import mmlk  # noqa: F401

DEPTHS, CHANNELS, KERNELS, CLASSES = (1, 2, 1, 1), (4, 6, 8, 10), (13, 11, 9, 7), 3


def authors_slak(form='decomposed', short=5, kernels=KERNELS, bn=True, classifier=True) -> dict[str, torch.Tensor]:
    """A state dict of the authors' SLaK, every value drawn anew."""
    weights = {}

    def add(key, *shape):
        weights[key] = torch.randn(shape)

    def add_norm(key, width, batch_norm=False):
        add(f'{key}.weight', width)
        add(f'{key}.bias', width)
        if batch_norm:
            add(f'{key}.running_mean', width)
            weights[f'{key}.running_var'] = torch.rand(width) + 0.5
            weights[f'{key}.num_batches_tracked'] = torch.tensor(len(weights))

    for s, (depth, width, long) in enumerate(zip(DEPTHS, CHANNELS, kernels, strict=True)):
        if s == 0:
            add('downsample_layers.0.0.weight', width, 3, 4, 4)
            add('downsample_layers.0.0.bias', width)
            add_norm('downsample_layers.0.1', width)
        else:
            add_norm(f'downsample_layers.{s}.0', CHANNELS[s - 1])
            add(f'downsample_layers.{s}.1.weight', width, CHANNELS[s - 1], 2, 2)
            add(f'downsample_layers.{s}.1.bias', width)
        for b in range(depth):
            block = f'stages.{s}.{b}'
            add(f'{block}.gamma', width)
            parts = {
                'decomposed': {'LoRA1': (long, short), 'LoRA2': (short, long), 'small_conv': (short, short)},
                'dense': {'lkb_origin': (long, long), 'small_conv': (short, short)},
                'convnext': {'lkb_origin': (long, long)},
                'merged': {},
            }[form]
            for part, edges in parts.items():
                add(f'{block}.large_kernel.{part}.conv.weight', width, 1, *edges)
                if bn:
                    add_norm(f'{block}.large_kernel.{part}.bn', width, batch_norm=True)
            if form == 'merged':
                add(f'{block}.large_kernel.lkb_reparam.weight', width, 1, long, long)
                add(f'{block}.large_kernel.lkb_reparam.bias', width)
            add_norm(f'{block}.norm', width)
            for part, shape in (('pwconv1', (4 * width, width)), ('pwconv2', (width, 4 * width))):
                add(f'{block}.{part}.weight', *shape)
                add(f'{block}.{part}.bias', shape[0])
    if classifier:
        add_norm('norm', CHANNELS[3])
        add('head.weight', CLASSES, CHANNELS[3])
        add('head.bias', CLASSES)
    return weights


def authors_upernet() -> dict[str, torch.Tensor]:
    """As mmseg 0.x saves it."""
    weights = {f'backbone.{key}': value for key, value in authors_slak(classifier=False).items()}
    for s, width in enumerate(CHANNELS):
        weights |= {f'backbone.norm{s}.weight': torch.randn(width), f'backbone.norm{s}.bias': torch.randn(width)}
    head = MODELS.build(upernet()).state_dict()
    return weights | {key: torch.rand(v.shape).to(v.dtype) for key, v in head.items() if 'backbone.' not in key}


def upernet(**backbone) -> dict:
    norm = dict(type='BN')
    head = dict(num_classes=2, channels=4, norm_cfg=norm, type='mmseg.UPerHead', pool_scales=(1, 2))
    return dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(type='mmlk.SLaK', arch='tiny', **backbone),
        decode_head=dict(head, in_channels=list(CHANNELS), in_index=[0, 1, 2, 3]),
        auxiliary_head=dict(
            type='mmseg.FCNHead', in_channels=8, in_index=2, channels=4, num_convs=1, num_classes=2, norm_cfg=norm
        ),
        _scope_='mmseg',
    )


def classifier(**backbone) -> dict:
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmlk.SLaK', arch='tiny', final_norm=True, **backbone),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS[3]),
        _scope_='mmpretrain',
    )
