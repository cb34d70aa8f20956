# For the comparison after 120 epochs on ImageNet.
_base_ = [
    '../_base_/models/upernet_slak.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/ade20k_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(arch='t', drop_path_rate=0.1, init_cfg=dict(checkpoint='checkpoints/slak_t_120e.pth')),
    decode_head=dict(in_channels=[124, 249, 499, 998]),
    auxiliary_head=dict(in_channels=499),
)
# 4 GPUs x 8 images.
train_dataloader = dict(batch_size=8)
# The authors train what was pruned on ImageNet again in this schedule, in those of 160k iterations they do not.
