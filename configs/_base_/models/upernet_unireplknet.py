# UperNet on a UniRepLKNet backbone, tested on whole images with sides that are multiples of 32.
_base_ = './upernet.py'

model = dict(
    backbone=dict(type='mmlk.UniRepLKNet', norm_cfg=dict(type='SyncBN', requires_grad=True)),
    test_cfg=dict(_delete_=True, mode='whole'),
)
