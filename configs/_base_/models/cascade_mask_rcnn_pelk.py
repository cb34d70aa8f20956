# The paper says "as ConvNeXt", so drop path, learning rates and mixed precision are ConvNeXt's.
_base_ = './cascade_mask_rcnn.py'

model = dict(backbone=dict(type='mmlk.PeLK', layer_scale_init_value=1.0))
