# Departure: the authors' file trains with the pipeline for testing, by mistake; here it is the one for training.
_base_ = './upernet_replknet_31l_in21k_640.py'

model = dict(
    # As in pretraining.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(arch='xl', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/replknet_xl.pth')),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(max_iters=160000, val_interval=16000)
# 16 GPUs x 2 images.
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=32)
