_base_ = [
    '../_base_/models/classifier_shiftwise.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e_no_ema.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='v2_t', drop_path_rate=0.2), head=dict(in_channels=640))
# 8 GPUs x 64 images x 8 steps.
train_dataloader = dict(batch_size=64)
