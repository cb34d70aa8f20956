"""SW, repository lidc54/shift-wiseConv (ImageNet, segmentation and detection files of a version have the same body).

Two tables: the bodies of v1 and v2 use the same names for different layers (``gamma``) and different names for the same
(``pwconv1``), so no table of both could be read backwards. A state dict is explained by one of them only.
"""

from mmlk.checkpoints.key_map import KeyMap, Rule

_BLOCK, _OURS = 'stages.{s}.{b}', 'stages.{s}.blocks.{b}'
_KERNEL, _MIXER = f'{_BLOCK}.large_kernel', f'{_OURS}.mixer'

_COMMON = (
    Rule('downsample_layers.{p*}', 'downsample_layers.{p*}'),
    Rule(f'{_KERNEL}.LoRAs.{{i}}.weight', f'{_MIXER}.paths.{{i}}'),
    # The authors' merged form, one convolution for all paths: a network with num_paths=1. Backwards, the rule above
    # comes first.
    Rule(f'{_KERNEL}.LoRA.weight', f'{_MIXER}.paths.0'),
    Rule(f'{_KERNEL}.bn_lora1.{{p*}}', f'{_MIXER}.horizontal_norm.{{p*}}'),
    Rule(f'{_KERNEL}.bn_lora2.{{p*}}', f'{_MIXER}.vertical_norm.{{p*}}'),
    Rule(f'{_KERNEL}.bn_small.{{p*}}', f'{_MIXER}.small_norm.{{p*}}'),
    Rule(f'{_BLOCK}.norm.{{p*}}', f'{_OURS}.norm.{{p*}}'),
    # The classifier's norm; downstream, the norms of the outputs.
    Rule('norm.{p*}', 'norm.{p*}'),
    Rule('norm{s}.{p*}', 'norm{s}.{p*}'),
    Rule('head.{p*}', 'head.fc.{p*}'),
)

_DROPPED = {
    r'stages\.\d+\.\d+\.large_kernel\.(rep1?|ghost1?|loras\.(pad_hv1?|idx_identit1?|idx_out1?))': (
        'index table, which follows from the configuration'
    )
}

V1 = KeyMap(
    'shiftwise_v1',
    (
        *_COMMON,
        Rule(f'{_BLOCK}.pwconv1.weight', f'{_OURS}.ffn.fc1.weight'),
        Rule(f'{_BLOCK}.pwconv1.bias', f'{_OURS}.ffn.fc1.bias'),
        Rule(f'{_BLOCK}.pwconv2.weight', f'{_OURS}.ffn.fc2.weight'),
        Rule(f'{_BLOCK}.pwconv2.bias', f'{_OURS}.ffn.fc2.bias'),
        Rule(f'{_BLOCK}.gamma', f'{_OURS}.layer_scale.gamma'),
    ),
    _DROPPED,
)

V2 = KeyMap(
    'shiftwise_v2',
    (
        *_COMMON,
        Rule(f'{_BLOCK}.se.down.{{p*}}', f'{_OURS}.se.fc1.{{p*}}'),
        Rule(f'{_BLOCK}.se.up.{{p*}}', f'{_OURS}.se.fc2.{{p*}}'),
        Rule(f'{_BLOCK}.pwconv1.1.{{p*}}', f'{_OURS}.ffn.fc1.{{p*}}'),
        Rule(f'{_BLOCK}.act.1.gamma', f'{_OURS}.ffn.grn.weight'),
        Rule(f'{_BLOCK}.act.1.beta', f'{_OURS}.ffn.grn.bias'),
        Rule(f'{_BLOCK}.pwconv2.0.weight', f'{_OURS}.ffn.fc2.weight'),
        Rule(f'{_BLOCK}.pwconv2.2.{{p*}}', f'{_OURS}.ffn.norm.{{p*}}'),
        Rule(f'{_BLOCK}.gamma', f'{_OURS}.ffn.layer_scale.gamma'),
    ),
    _DROPPED,
)

KEY_MAPS = (V1, V2)
