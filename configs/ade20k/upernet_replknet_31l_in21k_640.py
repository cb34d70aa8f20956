_base_ = [
    '../_base_/models/upernet_replknet.py',
    '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/ade20k_80k.py',
    '../_base_/mmseg_runtime.py',
]

# Starts from the raw ImageNet-21K weights: the authors say of this file (issue 3 of their repository) that it worked
# downstream; their configs leave the checkpoint to the command line.
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch='31l', drop_path_rate=0.3, init_cfg=dict(checkpoint='checkpoints/replknet_31l_in21k_pretrain.pth')
    ),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(mode='slide', crop_size=(640, 640), stride=(426, 426)),
)
# 64 GPUs x 1 image.
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=64)
