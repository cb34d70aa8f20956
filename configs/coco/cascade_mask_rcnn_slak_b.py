# The result is PeLK's quotation; SLaK published no recipe for B: drop path and layer decay of ConvNeXt-B.
_base_ = './cascade_mask_rcnn_slak_t.py'

model = dict(
    backbone=dict(arch='b', drop_path_rate=0.7, init_cfg=dict(checkpoint='checkpoints/slak_b.pth')),
    neck=dict(in_channels=[166, 332, 665, 1331]),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8, num_layers=12))
