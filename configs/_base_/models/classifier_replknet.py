_base_ = './classifier.py'

model = dict(
    backbone=dict(type='mmlk.RepLKNet'),
    # The authors initialise nothing themselves, the head included.
    head=dict(init_cfg=None),
)
