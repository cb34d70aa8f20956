_base_ = [
    '../_base_/models/upernet_unireplknet.py',
    '../_base_/datasets/ade20k_640_multiple32.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch='s', drop_path_rate=0.3, with_cp=True, init_cfg=dict(checkpoint='checkpoints/unireplknet_s_in21k_384.pth')
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        decay_type='layer_wise',
        num_layers=12,
        # As for T.
        custom_keys=dict(grn=dict(decay_mult=1.0)),
    )
)
