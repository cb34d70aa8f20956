"""UniRepLKNet, repository AILab-CVC/UniRepLKNet, merged form; fits ``mmlk.UniRepLKNet`` with ``deploy=True``.

The large kernel keeps its name when it is merged, which is why the two forms cannot share a table.
"""

from mmlk.checkpoints.key_map import KeyMap, Rule
from mmlk.checkpoints.key_maps.unireplknet import BLOCK, COMMON, OURS

KEY_MAP = KeyMap(
    'unireplknet_merged',
    (
        *COMMON,
        Rule(f'{BLOCK}.dwconv.lk_origin.{{p*}}', f'{OURS}.mixer.reparam_convs.0.{{p*}}'),
        Rule(f'{BLOCK}.dwconv.bias', f'{OURS}.mixer.bias'),
        Rule(f'{BLOCK}.pwconv2.0.bias', f'{OURS}.ffn.fc2.bias'),
    ),
)
