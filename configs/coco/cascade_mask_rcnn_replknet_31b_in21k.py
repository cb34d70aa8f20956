_base_ = './cascade_mask_rcnn_replknet_31b.py'

# Starts from the raw ImageNet-21K weights, as the authors say they did with 31L (issue 3 of their repository); their
# configs leave the file to the command line.
model = dict(backbone=dict(drop_path_rate=0.4, init_cfg=dict(checkpoint='checkpoints/replknet_31b_in21k_pretrain.pth')))
