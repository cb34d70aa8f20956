"""Cascade Mask R-CNN trains and predicts on the stand-in operators."""

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

SIZE = 96  # pixels
CLASSES = 3
CHANNELS = 16


def box_head(target_stds: list[float]) -> dict:
    return dict(
        type='Shared2FCBBoxHead',
        in_channels=CHANNELS,
        fc_out_channels=16,
        roi_feat_size=7,
        num_classes=CLASSES,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=target_stds),
        reg_class_agnostic=True,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0),
    )


def assigner(iou: float) -> dict:
    return dict(type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou, ignore_iof_thr=-1)


def roi_extractor(output_size: int) -> dict:
    return dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=output_size, sampling_ratio=0),
        out_channels=CHANNELS,
        featmap_strides=[4, 8, 16, 32],
    )


def body() -> dict:
    return dict(
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3, pad_mask=True),
        backbone=dict(type='ResNet', depth=18, base_channels=8, norm_cfg=dict(type='BN'), style='pytorch'),
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=CHANNELS, num_outs=5),
    )


def cascade_mask_rcnn() -> dict:
    sampler = dict(type='RandomSampler', num=16, pos_fraction=0.5, add_gt_as_proposals=True)
    proposals = dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    return dict(
        type='CascadeRCNN',
        **body(),
        rpn_head=dict(
            type='RPNHead',
            in_channels=CHANNELS,
            feat_channels=CHANNELS,
            anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0),
        ),
        roi_head=dict(
            type='CascadeRoIHead',
            num_stages=3,
            stage_loss_weights=[1, 0.5, 0.25],
            bbox_roi_extractor=roi_extractor(7),
            bbox_head=[box_head([std, std, 2 * std, 2 * std]) for std in (0.1, 0.05, 0.033)],
            mask_roi_extractor=roi_extractor(14),
            mask_head=dict(
                type='FCNMaskHead',
                num_convs=1,
                in_channels=CHANNELS,
                conv_out_channels=CHANNELS,
                num_classes=CLASSES,
                loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(**assigner(0.5), match_low_quality=True),
                sampler=dict(**{**sampler, 'add_gt_as_proposals': False}),
                allowed_border=0,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=proposals,
            rcnn=[
                dict(assigner=assigner(iou), sampler=sampler, mask_size=28, pos_weight=-1, debug=False)
                for iou in (0.5, 0.6, 0.7)
            ],
        ),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=8, mask_thr_binary=0.5),
        ),
    )


def batch() -> dict:
    """Two noise images with a square object each."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for index in range(2):
        images.append(torch.randint(0, 256, (3, SIZE, SIZE), generator=generator).float())
        low, high = 16 + 8 * index, 64 + 8 * index
        mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
        mask[:, low:high, low:high] = 1
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0), batch_input_shape=(SIZE, SIZE)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[low, low, high, high]]).float(),
            labels=torch.tensor([index]),
            masks=BitmapMasks(mask.numpy(), SIZE, SIZE),
        )
        images[-1][:, low:high, low:high] = 255 * index
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def test_cascade_mask_rcnn_trains_and_predicts():
    torch.manual_seed(0)
    init_default_scope('mmdet')
    model = MODELS.build(ConfigDict(cascade_mask_rcnn()))
    data = model.data_preprocessor(batch(), training=True)
    losses = model(**data, mode='loss')
    _, values = model.parse_losses(losses)
    assert {'loss_rpn_cls', 's0.loss_cls', 's2.loss_bbox', 's2.loss_mask'} <= values.keys()
    assert all(value.isfinite() for value in values.values()), values
    # The cascade alone, so that every gradient of backbone and neck has come through RoIAlign.
    sum(value for name, value in values.items() if name[0] == 's' and 'loss' in name).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    without = {name for name, _ in model.named_parameters() if name not in gradients or not gradients[name].any()}
    # On so small an image every region is taken from the finest level.
    assert {name for name in without if not name.startswith('rpn_head.')} == {
        f'neck.fpn_convs.{level}.conv.{kind}' for level in (1, 2, 3) for kind in ('weight', 'bias')
    }
    model.eval()
    with torch.no_grad():
        predictions = model(**model.data_preprocessor(batch(), training=False), mode='predict')
    assert len(predictions) == 2
    for prediction in predictions:
        instances = prediction.pred_instances
        assert 0 < len(instances) <= 8
        assert instances.scores.isfinite().all() and instances.bboxes.isfinite().all()
        if 'masks' in instances:
            assert instances.masks.shape == (len(instances), SIZE, SIZE)
