_base_ = ['./default_runtime.py']

default_scope = 'mmseg'
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type='mmlk.CheckpointHook', by_epoch=False, interval=16000, max_keep_ckpts=2),
    visualization=dict(type='SegVisualizationHook'),
)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=False)
tta_model = dict(type='SegTTAModel')
