# 160k iterations at batch 32 as RepLKNet's authors run them: 40k at 64 GPUs x 2 images. On 8 GPUs x 2 that is
# train_cfg.max_iters=320000, both schedulers stretched alike, and --auto-scale-lr.
_base_ = './ade20k_80k.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=400),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=400, end=40000),
]
train_cfg = dict(max_iters=40000, val_interval=4000)
auto_scale_lr = dict(base_batch_size=128)
