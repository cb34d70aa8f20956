_base_ = './cascade_mask_rcnn_replknet_31l_in21k.py'

model = dict(
    # As in pretraining. Departure: the authors' file validates with ImageNet's mean and std, by mistake; here there is
    # one preprocessor for all.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(arch='xl', drop_path_rate=0.5, init_cfg=dict(checkpoint='checkpoints/replknet_xl.pth')),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
# 4 images per GPU.
train_dataloader = dict(batch_size=4)
