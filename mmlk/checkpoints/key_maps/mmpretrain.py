"""RepLKNet as mmpretrain publishes it: classifiers in train form, with the body's names of the authors."""

from mmlk.checkpoints.key_map import KeyMap, Rule
from mmlk.checkpoints.key_maps.replknet import BODY

KEY_MAP = KeyMap(
    'mmpretrain',
    (
        *(Rule(f'backbone.{rule.theirs}', rule.ours) for rule in BODY),
        # mmpretrain's stages own the norms of the outputs; in a classifier that of the last is the classifier's. A file
        # with norms of the other stages is no classifier, and there is no published one.
        Rule('backbone.stages.3.norm.{p*}', 'norm.{p*}'),
        Rule('head.fc.{p*}', 'head.fc.{p*}'),
    ),
)
