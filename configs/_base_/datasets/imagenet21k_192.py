# ImageNet-21K at 192 pixels, as InternImage pretrains its large networks.
_base_ = './imagenet21k_224.py'

train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='RandomResizedCrop', scale=192, backend='pillow', interpolation='bicubic'),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # 192 / 0.875, cut off.
    dict(type='ResizeEdge', scale=219, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=192),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
