"""What ``tools/test.py`` changes in a config."""

from __future__ import annotations

import json

from mmengine.config import Config

from mmlk.errors import UsageError
from mmlk.files import write_whole

#: How the visualisation hook of each host is told to draw every image.
DRAW = {
    'mmseg': {'draw': True, 'interval': 1},
    'mmdet': {'draw': True, 'interval': 1},
    'mmpretrain': {'enable': True, 'interval': 1},
}


def enable_tta(cfg: Config) -> None:
    """Test with the config's ``tta_pipeline`` and ``tta_model``.

    Raises:
        UsageError: The config has none.
    """
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        raise UsageError('--tta needs tta_pipeline and tta_model in the config, it has none; leave out --tta')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def enable_deploy(cfg: Config, form: str = 'auto') -> None:
    """Fuse the model between loading and testing.

    Args:
        cfg: Config to change.
        form: ``'auto'``, ``'dense'`` or ``'strips'``.
    """
    # A checkpoint's weights are the averaged ones already; the hook would swap them with parameters that fusion
    # removed.
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] != 'EMAHook']
    cfg.custom_hooks = [*hooks, dict(type='mmlk.SwitchToDeployHook', form=form)]


def add_outputs(cfg: Config, out: str | None, show_dir: str | None) -> None:
    """Write predictions to a .pkl file, draw them into a folder.

    Raises:
        UsageError: ``out`` is neither .json nor .pkl.
    """
    if out is not None and not out.endswith(('.json', '.pkl')):
        raise UsageError(f'--out must end in .json (metrics) or .pkl (predictions), got {out}')
    if out is not None and out.endswith('.pkl'):
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
        cfg.test_evaluator = [*evaluators, dict(type='DumpResults', out_file_path=out)]
    if show_dir is not None:
        cfg.default_hooks.visualization.update(DRAW[cfg.default_scope])
        cfg.visualizer.save_dir = show_dir


def write_metrics(metrics: dict, path: str) -> None:
    """Write metrics as JSON; the file appears only when it is complete."""
    write_whole(path, json.dumps({key: float(value) for key, value in metrics.items()}, indent=2) + '\n')
