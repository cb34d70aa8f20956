"""The effective receptive field in the visualiser, during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmlk.engine.bare_model import bare_model
from mmlk.errors import UsageError
from mmlk.registry import HOOKS


@HOOKS.register_module()
class ERFHook(Hook):
    """Draw the effective receptive field of the backbone every few epochs or iterations, and log its areas.

    The picture goes to every backend of the runner's visualiser as ``erf``, the area ratios as ``erf/area_20`` and so
    on, fractions of the image. Training goes on as without the hook: modes, gradients, statistics and the state of the
    random generators are put back. In a run of several processes the first one draws while the others go on.

    Args:
        interval: Epochs, or iterations without ``by_epoch``, between two pictures.
        by_epoch: Count epochs.
        size: (H, W) in pixels; the published size is (1024, 1024), a smaller one takes less time.
        num_images: Images averaged over.
        stage: Index of the stage, from 0, or from the end where negative.
        images: Folder of pictures; ``None`` takes the validation set, or generated scenes where it has no files.
        recompute: Save memory at the expense of time, see :func:`mmlk.analysis.erf.effective_receptive_fields`.

    Raises:
        ValueError: A number is not positive.

    Note:
        The field of the train form is drawn; the fused form has the same. Where weights are averaged, it is that of
        the weights being trained, not of the average.
    """

    # After the hooks that change weights, so that a picture shows what the checkpoint of this step holds.
    priority = 'LOW'

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        size: Sequence[int] = (512, 512),
        num_images: int = 8,
        stage: int = -1,
        images: str | None = None,
        recompute: bool = False,
    ) -> None:
        for name, value in (('interval', interval), ('num_images', num_images), ('size', min(size))):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        if len(size) != 2:
            raise ValueError(f'size must be (H, W), got {tuple(size)}')
        self.interval = interval
        self.by_epoch = by_epoch
        self.size = tuple(size)
        self.num_images = num_images
        self.stage = stage
        self.images = images
        self.recompute = recompute
        self._source = None
        self._reported: set[str] = set()

    def after_train_epoch(self, runner) -> None:
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self.draw(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self.draw(runner)

    @master_only
    def draw(self, runner) -> None:
        """Draw now; where it cannot be drawn, say why, once for each reason, and let training go on."""
        # Here, because everyone who trains imports the hooks, and only this one needs matplotlib.
        from mmlk.analysis.erf import Panel, area_ratios, draw_erf, effective_receptive_fields

        model = bare_model(runner.model)
        network = getattr(model, 'backbone', model)
        # At the end of an epoch the last iteration is counted already.
        step = runner.iter if self.by_epoch else runner.iter + 1
        when = f'epoch {runner.epoch + 1}' if self.by_epoch else f'iteration {step}'
        try:
            source = self._images(runner)
            tensors = source.tensors(*_normalisation(model))
            (erf,) = effective_receptive_fields(network, tensors, (self.stage,), self.recompute)
        except (UsageError, OSError, RuntimeError) as error:
            # Memory may be short now and not later; a picture is not worth the end of a training run.
            if str(error) not in self._reported:
                runner.logger.warning(f'ERFHook draws nothing: {error}')
                self._reported.add(str(error))
            return
        title = f'Effective receptive field, {source}'
        panel = Panel(type(network).__name__, when, erf)
        runner.visualizer.add_image('erf', _picture(draw_erf([panel], title=title)), step=step)
        scalars = {f'erf/area_{round(100 * a.threshold)}': a.ratio for a in area_ratios(erf.matrix)}
        runner.visualizer.add_scalars(scalars, step=step)

    def _images(self, runner):
        """The images, chosen once, so that pictures of different steps can be compared."""
        if self._source is None:
            from mmlk.analysis.erf import dataset_images, folder_images, scene_images

            if self.images is not None:
                self._source = folder_images(Path(self.images), self.num_images, self.size)
            else:
                dataset = getattr(getattr(runner.val_loop, 'dataloader', None), 'dataset', None)
                found = dataset_images(dataset, 'validation set', self.num_images, self.size) if dataset else None
                self._source = found or scene_images(self.num_images, self.size)
        return self._source


def _normalisation(model) -> tuple:
    """Mean, deviation and whether blue comes first, of the model's data preprocessor."""
    from mmlk.analysis.erf.images import MEAN, STD

    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None or mean.numel() != 3:
        return MEAN, STD, False
    turned = getattr(preprocessor, 'channel_conversion', False) or getattr(preprocessor, 'to_rgb', False)
    return mean.flatten().tolist(), std.flatten().tolist(), not turned


def _picture(figure) -> np.ndarray:
    """A figure as RGB (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
