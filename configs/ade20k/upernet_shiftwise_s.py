# The authors published the result, but no recipe: T's.
_base_ = './upernet_shiftwise_t.py'

model = dict(
    backbone=dict(arch='v2_s', init_cfg=dict(checkpoint='checkpoints/shiftwise_s.pth')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
