# The authors do not say whether they start from the weights of ImageNet-21K or, as on ADE20K, from those finetuned on
# ImageNet-1K at 384; here it is the latter.
_base_ = './cascade_mask_rcnn_unireplknet_s.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='checkpoints/unireplknet_s_in21k_384.pth')))
# As mmdet's ExpMomentumEMAHook of 2022: statistics of the norms are averaged too, the momentum falls to 1e-4.
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, update_buffers=True, priority='ABOVE_NORMAL')
]
