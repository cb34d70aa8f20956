_base_ = './unireplknet_l_in21k_pretrain.py'

model = dict(backbone=dict(arch='xl', drop_path_rate=0.2), head=dict(in_channels=2048))
# 32 GPUs x 32 images x 4 steps.
train_dataloader = dict(batch_size=32)
