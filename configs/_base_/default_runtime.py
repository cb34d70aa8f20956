# What every config shares, whatever the host toolbox.
custom_imports = dict(imports=['mmlk'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    finite_loss=dict(type='mmlk.FiniteLossHook'),
    log_history=dict(type='mmlk.LogHistoryHook'),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
log_level = 'INFO'
load_from = None
resume = False
