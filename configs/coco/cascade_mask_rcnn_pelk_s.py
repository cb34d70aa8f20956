_base_ = './cascade_mask_rcnn_pelk_t.py'

model = dict(backbone=dict(arch='s', drop_path_rate=0.6, init_cfg=dict(checkpoint='checkpoints/pelk_s.pth')))
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12))
