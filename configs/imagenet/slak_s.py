_base_ = './slak_t.py'

model = dict(backbone=dict(arch='s', drop_path_rate=0.4))
# 8 GPUs x 64 images x 8 steps.
train_dataloader = dict(batch_size=64)
