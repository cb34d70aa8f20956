_base_ = './upernet_unireplknet_t.py'

model = dict(
    backbone=dict(
        arch='s', drop_path_rate=0.3, with_cp=True, init_cfg=dict(checkpoint='checkpoints/unireplknet_s.pth')
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9, num_layers=12))
