"""Cascade Mask R-CNN as ConvNeXt, SLaK and PeLK use it on COCO: 4 convolutions and 1 linear layer in each box head."""

from mmengine.config import ConfigDict


def cascade_mask_rcnn(backbone: dict, channels: list[int]) -> ConfigDict:
    """Config of the detector, without what only training and testing need."""
    norm = dict(type='BN')
    box_head = dict(
        type='ConvFCBBoxHead',
        num_shared_convs=4,
        num_shared_fcs=1,
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        reg_class_agnostic=False,
        reg_decoded_bbox=True,
        norm_cfg=norm,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss'),
        loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
    )
    return ConfigDict(
        type='CascadeRCNN',
        test_cfg=dict(rpn=dict(), rcnn=dict()),
        backbone=backbone,
        neck=dict(type='FPN', in_channels=channels, out_channels=256, num_outs=5),
        rpn_head=dict(
            type='RPNHead',
            in_channels=256,
            feat_channels=256,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0),
        ),
        roi_head=dict(
            type='CascadeRoIHead',
            num_stages=3,
            stage_loss_weights=[1, 0.5, 0.25],
            bbox_roi_extractor=roi_extractor(7),
            bbox_head=[box_head] * 3,
            mask_roi_extractor=roi_extractor(14),
            mask_head=dict(
                type='FCNMaskHead',
                num_convs=4,
                in_channels=256,
                conv_out_channels=256,
                num_classes=80,
                loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
            ),
        ),
    )


def roi_extractor(size: int) -> dict:
    return dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    )
