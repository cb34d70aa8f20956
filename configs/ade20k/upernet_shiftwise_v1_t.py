# The first version has no published result here: T's recipe of the second.
_base_ = './upernet_shiftwise_t.py'

model = dict(
    backbone=dict(arch='v1_t', init_cfg=dict(checkpoint='checkpoints/shiftwise_v1_t.pth')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
