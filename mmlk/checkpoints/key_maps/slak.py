"""SLaK, repository VITA-Group/SLaK (ImageNet, segmentation and detection files have the same body)."""

from mmlk.checkpoints.key_map import KeyMap, Rule

_BLOCK, _OURS = 'stages.{s}.{b}', 'stages.{s}.blocks.{b}'
_KERNEL, _MIXER = f'{_BLOCK}.large_kernel', f'{_OURS}.mixer'

KEY_MAP = KeyMap(
    'slak',
    (
        Rule('downsample_layers.{p*}', 'downsample_layers.{p*}'),
        # Decomposed: the vertical strip, the horizontal strip. Their small square has the name of the dense form's,
        # whose table entry is the same.
        Rule(f'{_KERNEL}.LoRA1.conv.weight', f'{_MIXER}.vertical_weight'),
        Rule(f'{_KERNEL}.LoRA1.bn.{{p*}}', f'{_MIXER}.vertical_norm.{{p*}}'),
        Rule(f'{_KERNEL}.LoRA2.conv.weight', f'{_MIXER}.horizontal_weight'),
        Rule(f'{_KERNEL}.LoRA2.bn.{{p*}}', f'{_MIXER}.horizontal_norm.{{p*}}'),
        Rule(f'{_KERNEL}.small_conv.conv.weight', f'{_MIXER}.small_weight'),
        Rule(f'{_KERNEL}.small_conv.bn.{{p*}}', f'{_MIXER}.small_norm.{{p*}}'),
        # Not decomposed.
        Rule(f'{_KERNEL}.lkb_origin.conv.weight', f'{_MIXER}.weight'),
        Rule(f'{_KERNEL}.lkb_origin.bn.{{p*}}', f'{_MIXER}.norm.{{p*}}'),
        # Merged: one M x M kernel.
        Rule(f'{_KERNEL}.lkb_reparam.{{p*}}', f'{_MIXER}.reparam_convs.0.{{p*}}'),
        Rule(f'{_BLOCK}.norm.{{p*}}', f'{_OURS}.norm.{{p*}}'),
        Rule(f'{_BLOCK}.pwconv1.{{p*}}', f'{_OURS}.ffn.fc1.{{p*}}'),
        Rule(f'{_BLOCK}.pwconv2.{{p*}}', f'{_OURS}.ffn.fc2.{{p*}}'),
        Rule(f'{_BLOCK}.gamma', f'{_OURS}.layer_scale.gamma'),
        # The classifier's norm; downstream, the norms of the outputs.
        Rule('norm.{p*}', 'norm.{p*}'),
        Rule('norm{s}.{p*}', 'norm{s}.{p*}'),
        Rule('head.{p*}', 'head.fc.{p*}'),
    ),
)
