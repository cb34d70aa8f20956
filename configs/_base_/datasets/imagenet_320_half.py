# ImageNet-1K at 320 pixels for RepLKNet-XL, whose mean and standard deviation are 127.5.
_base_ = './imagenet_224.py'

data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='RandomResizedCrop', scale=320, backend='pillow', interpolation='bicubic'),
    _base_.train_pipeline[2],
    dict(_base_.train_pipeline[3], hparams=dict(pad_val=[128, 128, 128], interpolation='bicubic')),
    dict(_base_.train_pipeline[4], fill_color=[127.5] * 3, fill_std=[127.5] * 3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # 320 / 0.875, cut off.
    dict(type='ResizeEdge', scale=365, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=320),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
