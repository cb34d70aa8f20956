# The drop path is that of UniRepLKNet-S: the authors' repository has no command for this size.
_base_ = './shiftwise_t.py'

model = dict(backbone=dict(arch='v2_s', drop_path_rate=0.4), head=dict(in_channels=768))
