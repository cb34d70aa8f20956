# UperNet on a RepLKNet backbone, as its authors train it: SyncBN everywhere, activations recomputed, tested whole.
_base_ = './upernet.py'

model = dict(
    backbone=dict(type='mmlk.RepLKNet', norm_cfg=dict(type='SyncBN', requires_grad=True), with_cp=True),
    test_cfg=dict(_delete_=True, mode='whole'),
)
