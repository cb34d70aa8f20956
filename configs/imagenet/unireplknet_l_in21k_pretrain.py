# Size and rate after InternImage. The rate is that of the repository; the table of the paper has 4e-3.
_base_ = [
    '../_base_/models/classifier_unireplknet.py',
    '../_base_/datasets/imagenet21k_192.py',
    '../_base_/schedules/imagenet21k_90e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(arch='l', drop_path_rate=0.1), head=dict(num_classes=21841, in_channels=1536))
# 16 GPUs x 64 images x 4 steps.
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=1e-3), accumulative_counts=4)
auto_scale_lr = dict(base_batch_size=1024)
