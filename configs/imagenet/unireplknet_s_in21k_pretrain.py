_base_ = [
    '../_base_/models/classifier_unireplknet.py',
    '../_base_/datasets/imagenet21k_224.py',
    '../_base_/schedules/imagenet21k_90e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='s', drop_path_rate=0.1), head=dict(num_classes=21841, in_channels=768))
# 16 GPUs x 32 images x 8 steps.
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(accumulative_counts=8)
auto_scale_lr = dict(base_batch_size=512)
