"""Give the depthwise convolutions of the runner's model the large-kernel op."""

from __future__ import annotations

from mmengine.hooks import Hook

from mmlk.engine.bare_model import bare_model
from mmlk.nn import accelerate
from mmlk.registry import HOOKS


@HOOKS.register_module()
class AccelerateHook(Hook):
    """Call :func:`mmlk.accelerate` on the model before it is trained, validated or tested, and log what it did.

    It does so after the weights are initialised or loaded, because initialisation goes by the names of classes. The
    state dict stays what it is, so checkpoints fit with and without the hook.

    Args:
        min_kernel: Smallest larger kernel edge, in pixels.
        backend: Backend of the op; ``None`` takes, per call, the first that can run.
    """

    def __init__(self, min_kernel: int = 7, backend: str | None = None) -> None:
        self.min_kernel = min_kernel
        self.backend = backend
        self._logged = False

    def before_train(self, runner) -> None:
        self._accelerate(runner)

    def before_val(self, runner) -> None:
        self._accelerate(runner)

    def before_test(self, runner) -> None:
        self._accelerate(runner)

    def _accelerate(self, runner) -> None:
        model = bare_model(runner.model)
        report = accelerate(model, min_kernel=self.min_kernel, backend=self.backend)
        # Every validation calls this; it is worth a line again only where another hook brought new convolutions.
        if report.swapped or not self._logged:
            found = report.swapped or report.already
            (runner.logger.info if found else runner.logger.warning)(str(report))
        self._logged = True
