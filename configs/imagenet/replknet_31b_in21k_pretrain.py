_base_ = [
    '../_base_/models/classifier_replknet.py',
    '../_base_/datasets/imagenet21k_224.py',
    '../_base_/schedules/imagenet21k_90e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='31b', drop_path_rate=0.1), head=dict(num_classes=21841, in_channels=1024))
# 128 GPUs x 32 images.
train_dataloader = dict(batch_size=32)
