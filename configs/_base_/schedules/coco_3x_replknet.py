# The COCO recipe of RepLKNet: as the others', with one learning rate for all layers, and weight decay on the biases of
# neck and heads too.
_base_ = './coco_3x.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
# The authors do not say how many GPUs they used; the learning rate is four times the usual one for 16 images.
auto_scale_lr = dict(base_batch_size=64)
