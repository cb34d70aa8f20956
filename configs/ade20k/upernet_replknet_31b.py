_base_ = [
    '../_base_/models/upernet_replknet.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/ade20k_40k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(arch='31b', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/replknet_31b.pth')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
