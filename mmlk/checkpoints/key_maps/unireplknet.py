"""UniRepLKNet, repository AILab-CVC/UniRepLKNet, train form: every file the authors released.

ImageNet, segmentation and detection files have the same body. The merged form uses the same names for other tensors, so
it has a table of its own, in ``unireplknet_merged``.
"""

from mmlk.checkpoints.key_map import KeyMap, Rule

BLOCK, OURS = 'stages.{s}.{b}', 'stages.{s}.blocks.{b}'
_KERNEL, _MIXER = f'{BLOCK}.dwconv', f'{OURS}.mixer'

#: What the merged form leaves as it is.
COMMON = (
    Rule('downsample_layers.{p*}', 'downsample_layers.{p*}'),
    Rule(f'{BLOCK}.se.down.{{p*}}', f'{OURS}.se.fc1.{{p*}}'),
    Rule(f'{BLOCK}.se.up.{{p*}}', f'{OURS}.se.fc2.{{p*}}'),
    Rule(f'{BLOCK}.pwconv1.1.{{p*}}', f'{OURS}.ffn.fc1.{{p*}}'),
    # The gamma of the GRN; that of the block is the layer scale.
    Rule(f'{BLOCK}.act.1.gamma', f'{OURS}.ffn.grn.weight'),
    Rule(f'{BLOCK}.pwconv2.0.weight', f'{OURS}.ffn.fc2.weight'),
    # Blocks with a 3 x 3 or 5 x 5 kernel.
    Rule(f'{_KERNEL}.weight', f'{_MIXER}.weight'),
    # The classifier's norm; downstream, the norms of the outputs.
    Rule('norm.{p*}', 'norm.{p*}'),
    Rule('norm{s}.{p*}', 'norm{s}.{p*}'),
    Rule('head.{p*}', 'head.fc.{p*}'),
)

KEY_MAP = KeyMap(
    'unireplknet',
    (
        *COMMON,
        Rule(f'{_KERNEL}.lk_origin.weight', f'{_MIXER}.large_weight'),
        Rule(f'{_KERNEL}.origin_bn.{{p*}}', f'{_MIXER}.large_norm.{{p*}}'),
        Rule(f'{_KERNEL}.dil_conv_k{{k}}_{{r}}.weight', f'{_MIXER}.dilated_weights.k{{k}}_d{{r}}'),
        Rule(f'{_KERNEL}.dil_bn_k{{k}}_{{r}}.{{p*}}', f'{_MIXER}.dilated_norms.k{{k}}_d{{r}}.{{p*}}'),
        Rule(f'{BLOCK}.norm.{{p*}}', f'{OURS}.norm.{{p*}}'),
        Rule(f'{BLOCK}.act.1.beta', f'{OURS}.ffn.grn.bias'),
        Rule(f'{BLOCK}.pwconv2.2.{{p*}}', f'{OURS}.ffn.norm.{{p*}}'),
        Rule(f'{BLOCK}.gamma', f'{OURS}.ffn.layer_scale.gamma'),
    ),
)
