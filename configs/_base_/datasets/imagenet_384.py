# ImageNet-1K at 384 pixels. From this size on the authors of ConvNeXt, and all who use their code, test on the whole
# picture, warped to a square.
_base_ = './imagenet_224.py'

train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='RandomResizedCrop', scale=384, backend='pillow', interpolation='bicubic'),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(384, 384), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
