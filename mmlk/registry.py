"""Child registries of MMEngine's root registries, scope ``mmlk``.

Configs name our classes as ``type='mmlk.PeLK'`` while ``default_scope`` stays the host's. MMEngine imports this module
on the first look-up of a name with that scope, and the modules in ``locations`` only when something is built, so both
stay light.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmlk', locations=['mmlk.models'])
MODEL_WRAPPERS = Registry('model wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='mmlk', locations=['mmlk.engine'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmlk', locations=['mmlk.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmlk', locations=['mmlk.datasets'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mmlk', locations=['mmlk.datasets'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmlk', locations=['mmlk.engine'])
STRATEGIES = Registry('strategy', parent=MMENGINE_STRATEGIES, scope='mmlk', locations=['mmlk.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmlk', locations=['mmlk.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optim wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmlk',
    locations=['mmlk.engine'],
)
