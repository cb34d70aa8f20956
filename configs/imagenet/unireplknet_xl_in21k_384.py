_base_ = './unireplknet_l_in21k_384.py'

model = dict(
    backbone=dict(arch='xl', init_cfg=dict(checkpoint='checkpoints/unireplknet_xl_in21k_pretrain.pth')),
    head=dict(in_channels=2048),
)
# 8 GPUs x 32 images x 2 steps.
train_dataloader = dict(batch_size=32)
