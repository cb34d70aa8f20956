# The longest kernels of the series 3, 7, 13, 25, 31 that the paper compares after 120 epochs on ImageNet and 80k
# iterations here. Its batch is not published: 32, in which the authors count the iterations of their other runs.
_base_ = [
    '../_base_/models/upernet_replknet.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/ade20k_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(arch='31b', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/replknet_31b_120e.pth')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
