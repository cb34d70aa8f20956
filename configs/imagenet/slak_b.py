_base_ = './slak_t.py'

model = dict(backbone=dict(arch='b', drop_path_rate=0.5), head=dict(in_channels=1331))
# 16 GPUs x 32 images x 8 steps.
train_dataloader = dict(batch_size=32)
