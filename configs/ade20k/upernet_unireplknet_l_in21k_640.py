_base_ = './upernet_unireplknet_b_in21k_640.py'

model = dict(
    backbone=dict(arch='l', drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/unireplknet_l_in21k_384.pth')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.85))
