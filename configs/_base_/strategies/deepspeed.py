# Gradients and moments of the optimizer shared out among the processes, by DeepSpeed; see docs/distributed.md. The
# config also needs optim_wrapper.type='DeepSpeedOptimWrapper'.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(stage=2),
    # An optimizer of torch, as built from the config, is shared out as it is.
    config=dict(zero_allow_untested_optimizer=True, zero_force_ds_cpu_optimizer=False),
)
