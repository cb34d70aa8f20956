_base_ = ['./default_runtime.py']

default_scope = 'mmpretrain'
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(type='mmlk.CheckpointHook', interval=1, max_keep_ckpts=2),
    visualization=dict(type='VisualizationHook', enable=False),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
