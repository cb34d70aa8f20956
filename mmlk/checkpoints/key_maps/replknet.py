"""RepLKNet, repository DingXiaoH/RepLKNet-pytorch (ImageNet, segmentation and detection files have the same body)."""

from mmlk.checkpoints.key_map import KeyMap, Rule

_BLOCK = 'stages.{s}.blocks.{b}'
_KERNEL, _MIXER = f'{_BLOCK}.large_kernel', f'{_BLOCK}.mixer'


def _conv_bn(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(f'{theirs}.conv.weight', f'{ours}.conv.weight'),
        Rule(f'{theirs}.bn.{{p*}}', f'{ours}.norm.{{p*}}'),
    )


#: Everything but the norms of outputs and classifier, and the classifier.
BODY = (
    *_conv_bn('stem.{i}', 'downsample_layers.0.{i}'),
    *(
        rule
        for index in range(3)
        for rule in _conv_bn(f'transitions.{index}.{{i}}', f'downsample_layers.{index + 1}.{{i}}')
    ),
    # Blocks with an even number have the large kernel, those with an odd one are ConvFFN.
    Rule(f'{_BLOCK}.prelkb_bn.{{p*}}', f'{_BLOCK}.mixer_norm.{{p*}}'),
    Rule(f'{_BLOCK}.preffn_bn.{{p*}}', f'{_BLOCK}.ffn_norm.{{p*}}'),
    *_conv_bn(f'{_BLOCK}.pw{{i}}', f'{_BLOCK}.pw{{i}}'),
    Rule(f'{_KERNEL}.lkb_origin.conv.weight', f'{_MIXER}.weight'),
    Rule(f'{_KERNEL}.lkb_origin.bn.{{p*}}', f'{_MIXER}.norm.{{p*}}'),
    Rule(f'{_KERNEL}.small_conv.conv.weight', f'{_MIXER}.small_weight'),
    Rule(f'{_KERNEL}.small_conv.bn.{{p*}}', f'{_MIXER}.small_norm.{{p*}}'),
    # Merged.
    Rule(f'{_KERNEL}.lkb_reparam.{{p*}}', f'{_MIXER}.reparam_convs.0.{{p*}}'),
)

KEY_MAP = KeyMap(
    'replknet',
    (
        *BODY,
        # The classifier's norm; downstream, and for XL only, the norms of the outputs.
        Rule('norm.{p*}', 'norm.{p*}'),
        Rule('stages.{s}.norm.{p*}', 'norm{s}.{p*}'),
        Rule('head.weight', 'head.fc.weight'),
        Rule('head.bias', 'head.fc.bias'),
    ),
    {
        r'head\.(?!weight$|bias$).+': (
            'part of the heads of the MegData73M pretraining, such as head.cls_22k: XL is used as a backbone or '
            'fine-tuned with a new classifier'
        )
    },
)
