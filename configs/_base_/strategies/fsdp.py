# Gradients and moments of the optimizer shared out among the processes, by FSDP; see docs/distributed.md.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='mmlk.FSDPStrategy',
    # Without a policy for parts: heads are asked for losses, not called, so they cannot be gathered one by one.
    model_wrapper=dict(type='MMFullyShardedDataParallel', use_orig_params=True, sharding_strategy='SHARD_GRAD_OP'),
    # Checkpoints are files that any run can load.
    state_dict_cfg='full',
)
