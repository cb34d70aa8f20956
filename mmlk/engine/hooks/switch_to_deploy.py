"""Test the fused form of a model."""

from __future__ import annotations

from mmengine.hooks import Hook

from mmlk.engine.bare_model import bare_model
from mmlk.errors import UsageError
from mmlk.models.reparam import switch_to_deploy
from mmlk.registry import HOOKS


@HOOKS.register_module()
class SwitchToDeployHook(Hook):
    """Fuse the model after its checkpoint is loaded and before testing starts.

    A model with nothing to fuse, or fused already, is tested as it is, with a warning.

    Args:
        form: ``'auto'``, ``'dense'`` or ``'strips'``.

    Raises:
        UsageError: The model does not have this form; when testing starts.
    """

    def __init__(self, form: str = 'auto') -> None:
        self.form = form

    def before_test(self, runner) -> None:
        model = bare_model(runner.model)
        before = set(model.state_dict())
        try:
            switch_to_deploy(model, self.form)
        except (TypeError, ValueError) as error:
            raise UsageError(f'the model cannot be fused to form {self.form!r}: {error}') from error
        if set(model.state_dict()) != before:
            runner.logger.info(f'fused the model for testing, form {self.form}')
        else:
            runner.logger.warning('nothing to fuse: the model has no train-time branches of mmlk, or is fused already')
