_base_ = './unireplknet_t.py'

model = dict(backbone=dict(arch='s', drop_path_rate=0.4), head=dict(in_channels=768))
# 8 GPUs x 64 images x 8 steps.
train_dataloader = dict(batch_size=64)
