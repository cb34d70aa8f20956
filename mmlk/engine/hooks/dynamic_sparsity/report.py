"""What a sparse training tells: lines of the log, scalars and figures."""

from __future__ import annotations

import re

from mmengine.dist import is_main_process

from mmlk.sparsity import SparseTraining, UpdateReport


class SparsityReport:
    """Writes to the log, the message hub and the visualizer of a runner.

    The overall density is a scalar of every line of the log; the density of every layer goes to the visualizer alone,
    at the beginning and at every update, because a network has a hundred layers.

    Args:
        runner: Runner of MMEngine.
        training: The masks.
    """

    def __init__(self, runner, training: SparseTraining) -> None:
        self.runner = runner
        self.training = training
        self._names = compact_names(list(training.parameters))

    def start(self, mode: str, updates: int, resumed: bool) -> None:
        """The masks are there: say how dense they are, and draw it."""
        training = self.training
        dense = training.dense_layers
        text = (
            f'sparse training, {mode}: {self._overall()} in {len(training.parameters)} layers'
            + (f', {len(dense)} of them dense ({_shorten([self._names[name] for name in dense])})' if dense else '')
            + (f', updates of the masks to come: {updates - training.updates_done}' if mode == 'dynamic' else '')
        )
        self.runner.logger.info(('resumed ' if resumed else '') + text)
        if not resumed:
            self._density_scalars()
            self._draw()

    def update(self, report: UpdateReport) -> None:
        """The masks have changed."""
        self.runner.logger.info(
            f'sparse training: update {report.index} after {report.step} optimizer steps pruned {report.pruned} and '
            f'grew {report.grown} mask entries (prune rate {report.prune_rate:.4f}), {self._overall()}'
        )
        self._density_scalars({'pruned': report.pruned, 'grown': report.grown}, after=1)

    def end(self) -> None:
        """Training is over: draw the density again."""
        self.runner.logger.info(f'sparse training: ends with {self._overall()}')
        self._draw()

    def _overall(self) -> str:
        counts = self.training.counts().values()
        active, total = sum(count[0] for count in counts), sum(count[1] for count in counts)
        return f'{active} of {total} weights active (density {active / max(total, 1):.4f})'

    def _density_scalars(self, more: dict[str, int] | None = None, after: int = 0) -> None:
        """Record the density, in all and per layer.

        Args:
            more: Other scalars of this moment.
            after: Iterations that have ended but are not yet counted.
        """
        counts = self.training.counts()
        overall = sum(active for active, _ in counts.values()) / max(sum(total for _, total in counts.values()), 1)
        self.runner.message_hub.update_scalar('train/density', overall)
        layers = {f'density/{self._names[name]}': value for name, value in self.training.density().items()}
        self.runner.visualizer.add_scalars(
            {'density': overall, **(more or {}), **layers}, step=self.runner.iter + after
        )

    def _draw(self) -> None:
        if is_main_process():
            # matplotlib, which takes a second to import.
            from mmlk.analysis.sparsity_figure import draw_density

            self.runner.visualizer.add_image('density', draw_density(self.training.density()), step=self.runner.iter)


def compact_names(names: list[str]) -> dict[str, str]:
    """Short names of weights, as long as they stay different.

    Example:
        >>> compact_names(['backbone.stages.2.blocks.10.ffn.fc1.weight', 'head.fc.weight'])
        {'backbone.stages.2.blocks.10.ffn.fc1.weight': 's2.b10.ffn.fc1', 'head.fc.weight': 'head.fc'}
    """
    short = {}
    for name in names:
        text = re.sub(r'\.weight$', '', re.sub(r'^backbone\.', '', name))
        text = re.sub(r'^downsample_layers\.', 'down', text)
        short[name] = re.sub(r'^stages\.(\d+)\.(?:blocks\.)?(\d+)\.', r's\1.b\2.', text)
    return short if len(set(short.values())) == len(short) else {name: name for name in names}


def _shorten(names: list[str], most: int = 4) -> str:
    return ', '.join(names[:most]) + (f', {len(names) - most} more' if len(names) > most else '')
