"""The names users import. A change here is a change for users: it belongs into CHANGELOG.md."""

import doctest
import importlib

import pytest

import mmlk

PUBLIC = {
    'mmlk': {'UsageError', '__version__', 'accelerate', 'create_model', 'list_models'},
    'mmlk.nn': {
        'AccelerationReport',
        'CpuSyncBatchNorm',
        'DepthwiseConv',
        'LargeKernelConv2d',
        'accelerate',
        'sync_batch_norm_on_cpu',
    },
    'mmlk.ops': {'default_backend', 'depthwise_conv2d', 'expand_kernel', 'explain', 'peripheral_conv2d'},
    'mmlk.export': {
        'Difference',
        'ExportResult',
        'ExportedNetwork',
        'FORMATS',
        'OUTPUTS',
        'Signature',
        'export_network',
        'find_differences',
        'make_portable',
    },
    'mmlk.models': {
        'BaseLargeKernelBackbone',
        'BaseMixer',
        'ConvNeXtStyleBackbone',
        'DenseMixer',
        'DilatedReparamMixer',
        'KernelPositionEmbedding',
        'LargeKernelConv2d',
        'PeLK',
        'PeripheralMixer',
        'RepLKNet',
        'SLaK',
        'ShiftWiseMixer',
        'ShiftWiseNet',
        'StripeMixer',
        'UniRepLKNet',
        'build_fused_model',
        'make_sharing_grid',
        'switch_to_deploy',
    },
    'mmlk.sparsity': {
        'ConstantPruneRate',
        'CosinePruneRate',
        'Elements',
        'Kernels',
        'LayerUpdate',
        'SparseTraining',
        'UpdateReport',
        'UpdateSchedule',
        'erk',
        'fill_dense',
        'find_path_groups',
        'from_scores',
        'generator_for',
        'gradient_magnitude',
        'grow_by_score',
        'grow_random',
        'magnitude',
        'prune',
        'random_mask',
        'saliency',
        'select_parameters',
        'snip_scores',
        'uniform',
    },
    'mmlk.analysis.erf': {
        'Area',
        'Erf',
        'FeatureMaps',
        'ImageSource',
        'Panel',
        'area_ratios',
        'contribution_map',
        'dataset_images',
        'draw_erf',
        'effective_receptive_fields',
        'estimate_bytes',
        'folder_images',
        'free_bytes',
        'scale_map',
        'scene_images',
    },
    'mmlk.engine': {
        'AccelerateHook',
        'CheckpointHook',
        'DistributedDataParallel',
        'DynamicSparsityHook',
        'ERFHook',
        'EpochBasedTrainLoop',
        'FSDPStrategy',
        'FiniteLossHook',
        'IterBasedTrainLoop',
        'LayerDecayOptimWrapperConstructor',
        'LogHistoryHook',
        'SwitchToDeployHook',
        'start_processes',
    },
}

REGISTERED = {
    'MODELS': {
        'DenseMixer',
        'DilatedReparamMixer',
        'FusedModel',
        'LN2d',
        'LargeKernelConv2d',
        'PeLK',
        'PeripheralMixer',
        'RepLKNet',
        'SLaK',
        'ShiftWiseMixer',
        'ShiftWiseNet',
        'StripeMixer',
        'UniRepLKNet',
    },
    'METRICS': {'SubsetIoUMetric'},
    'HOOKS': {
        'AccelerateHook',
        'CheckpointHook',
        'DynamicSparsityHook',
        'ERFHook',
        'FiniteLossHook',
        'LogHistoryHook',
        'SwitchToDeployHook',
    },
    'MODEL_WRAPPERS': {'DistributedDataParallel'},
    'STRATEGIES': {'FSDPStrategy'},
    'LOOPS': {'EpochBasedTrainLoop', 'IterBasedTrainLoop'},
    'OPTIM_WRAPPER_CONSTRUCTORS': {'LayerDecayOptimWrapperConstructor'},
    'DATASETS': set(),
    'TRANSFORMS': set(),
}

WITH_EXAMPLES = [
    'mmlk.files',
    'mmlk.ops.depthwise_conv2d.functional',
    'mmlk.ops.peripheral_conv2d.functional',
    'mmlk.factory.create',
    'mmlk.factory.names',
    'mmlk.nn.accelerate',
    'mmlk.nn.large_kernel_conv',
    'mmlk.nn.sync_batch_norm',
    'mmlk.sparsity.schedules',
    'mmlk.sparsity.distributions',
    'mmlk.sparsity.units',
    'mmlk.sparsity.selection',
    'mmlk.sparsity.training',
    'mmlk.models.mixers.sharing_grid',
    'mmlk.models.mixers.peripheral',
    'mmlk.models.mixers.dense',
    'mmlk.models.mixers.dilated',
    'mmlk.models.mixers.shift_index',
    'mmlk.models.mixers.shiftwise',
    'mmlk.models.mixers.stripe',
    'mmlk.models.fused_model',
    'mmlk.analysis.erf.area',
    'mmlk.analysis.erf.matrix',
    'mmlk.models.backbones.pelk',
    'mmlk.models.backbones.replknet',
    'mmlk.models.backbones.shiftwise',
    'mmlk.models.backbones.slak',
    'mmlk.models.backbones.unireplknet',
]


@pytest.mark.parametrize('module', PUBLIC)
def test_public_names(module):
    imported = importlib.import_module(module)
    assert set(imported.__all__) == PUBLIC[module]
    for name in PUBLIC[module] - {'__version__'}:
        assert getattr(imported, name).__doc__, f'{module}.{name} has no docstring'


def test_registered_names():
    registries = importlib.import_module('mmlk.registry')
    for name, expected in REGISTERED.items():
        registry = getattr(registries, name)
        registry.import_from_location()
        assert set(registry.module_dict) == expected
        assert registry.scope == 'mmlk'


@pytest.mark.parametrize('module', WITH_EXAMPLES)
def test_docstring_examples_run(module):
    import torch

    imported = importlib.import_module(module)
    result = doctest.testmod(imported, extraglobs={'torch': torch})
    assert result.attempted > 0
    assert result.failed == 0


def test_version_is_a_version():
    from packaging.version import Version

    assert str(Version(mmlk.__version__)) == mmlk.__version__
