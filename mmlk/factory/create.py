"""``create_model``: a network by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from mmlk.errors import UsageError
from mmlk.factory.checks import build, check_arguments
from mmlk.factory.names import TIMM_PREFIX, look_up, picture_settings


def create_model(
    name: str,
    pretrained: str | os.PathLike | None = None,
    *,
    num_classes: int = 1000,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    deploy: bool | str = False,
    **backbone: Any,
) -> nn.Module:
    """Build a network by its name.

    Args:
        name: One of :func:`mmlk.list_models`; the names of timm, with ``mmlk_`` in front, work too.
        pretrained: File with weights: a checkpoint of a classifier, segmentor or detector of this project, or an
            authors' file, which is converted. It is read without running code, nothing is downloaded.
        num_classes: Classes of the linear layer; 0 leaves it out, and the network returns the vector in front of it.
        features_only: Return the maps of the stages instead, as a list; the network has a ``feature_info`` as timm's.
        out_indices: With ``features_only``, stages 0 to 3 whose maps are returned; a number n stands for the last n.
        in_chans: Channels of the picture. Pretrained weights of the first convolution are adapted as timm does: added
            up for one channel, repeated and scaled for others.
        drop_rate: Dropout in front of the linear layer.
        deploy: Return the fused network, for inference: ``True``, or one of the forms ``'dense'`` and ``'strips'``.
            Weights may be of the train form or fused.
        **backbone: Arguments of the backbone, such as ``drop_path_rate``, ``with_cp``, ``norm_cfg``, ``kernel_size``.

    Returns:
        A classifier that gives logits (N, num_classes), or with ``features_only`` a module that gives a list of maps.
        In train mode, as every new module. Keys are ``backbone.*`` and ``head.fc.*``, those of the checkpoints of
        MMPretrain, MMSegmentation and MMDetection.

    Raises:
        UsageError: The name is unknown, an argument is of another type or refused by the backbone, or the file does not
            hold exactly the weights that are needed.

    Example:
        >>> import torch, mmlk
        >>> model = mmlk.create_model('unireplknet_a', features_only=True, out_indices=(1, 3)).eval()
        >>> model.feature_info.channels(), model.feature_info.reduction()
        ([80, 320], [8, 32])
        >>> [tuple(y.shape) for y in model(torch.ones(1, 3, 64, 64))]
        [(1, 80, 8, 8), (1, 320, 2, 2)]
        >>> mmlk.create_model('unireplknet_a', num_classes=10).eval()(torch.ones(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """
    kind, arch = look_up(name)
    check_arguments(pretrained, num_classes, out_indices, in_chans, drop_rate, deploy)
    try:
        # Here, so that the name can be looked at and imported where these are not installed.
        from mmlk.factory.models import Classifier, FeatureExtractor, take_stages
        from mmlk.factory.weights import fused_form, load_classifier, load_features, read_weights
        from mmlk.models import switch_to_deploy
        from mmlk.registry import MODELS
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] not in ('mmengine', 'mmcv', 'timm'):
            raise
        raise UsageError(
            f'mmlk.create_model needs mmengine, mmcv and timm, found no {error.name}: pip install mmengine mmcv-lite '
            'timm, or take mmlk.nn and mmlk.ops, which need torch alone'
        ) from error
    name = name.removeprefix(TIMM_PREFIX)
    if pretrained is True:
        raise UsageError(
            f'pretrained=True would download weights of {name}, which mmlk does not: give the path of a file; '
            'docs/checkpoints.md says where the authors have theirs'
        )
    if out_indices is not None and not features_only:
        raise UsageError('out_indices is about maps: give features_only=True as well, or leave it out')
    arguments = dict(backbone, in_channels=in_chans)
    weights = None if not pretrained else read_weights(pretrained, name, arguments)
    form = None if weights is None else fused_form(weights)
    if form is not None and deploy not in (True, form):
        raise UsageError(
            f'{pretrained} is of the fused network ({form}), deploy={deploy!r} asks for another form: '
            f'give deploy={form!r}'
        )
    config = dict(arguments, type=f'mmlk.{kind}', arch=arch, deploy=form or False)
    config |= dict(out_indices=take_stages(out_indices)) if features_only else dict(final_norm=True)
    network = build(lambda: MODELS.build(config), name, backbone)
    if features_only:
        model: nn.Module = FeatureExtractor(network)
        if weights is not None:
            load_features(model, weights, str(pretrained))
    else:
        model = Classifier(network, num_classes, drop_rate)
        if weights is not None:
            load_classifier(model, weights, str(pretrained), num_classes)
    if deploy:
        switch_to_deploy(model, 'auto' if deploy is True else deploy)
    first = 'backbone.' + next(key for key, module in model.backbone.named_modules() if isinstance(module, nn.Conv2d))
    model.pretrained_cfg = dict(
        picture_settings(name), architecture=name, num_classes=0 if features_only else num_classes,
        first_conv=first, classifier='head.fc',
    )  # fmt: skip
    return model
