"""Test the fused form of a model."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmlk.models.reparam import switch_to_deploy
from mmlk.registry import HOOKS


@HOOKS.register_module()
class SwitchToDeployHook(Hook):
    """Fuse the model after its checkpoint is loaded and before testing starts.

    Args:
        form: ``'auto'``, ``'dense'`` or ``'strips'``.
    """

    def __init__(self, form: str = 'auto') -> None:
        self.form = form

    def before_test(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        switch_to_deploy(model, self.form)
        runner.logger.info('fused the model for testing')
