_base_ = './replknet_31b_in21k_384.py'

model = dict(
    backbone=dict(arch='31l', init_cfg=dict(checkpoint='checkpoints/replknet_31l_in21k_pretrain.pth')),
    head=dict(in_channels=1536),
)
