"""Export a model, run the file, compare; the file gets its name only where it gives the outputs of the model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmlk.errors import UsageError
from mmlk.export.check import Difference, find_differences
from mmlk.export.formats import EXPORTERS, FORMATS, Format, Run, Signature, exporting
from mmlk.export.networks import ExportedNetwork
from mmlk.export.portable import make_portable


@dataclass(frozen=True)
class ExportResult:
    """An export that was compared with its model.

    Attributes:
        signature: How the file is called.
        shapes: Shape of each output for the example.
        differences: One per image that was compared.
        bytes: Size of the file.
        run: The file, loaded.
    """

    signature: Signature
    shapes: tuple[tuple[int, ...], ...]
    differences: tuple[Difference, ...]
    bytes: int
    run: Run

    @property
    def equal(self) -> bool:
        """Whether every difference is within the tolerance."""
        return all(difference.equal for difference in self.differences)


def export_network(
    network: ExportedNetwork,
    out: Path,
    format: str,
    sizes: Sequence[tuple[int, int]],
    *,
    form: str = 'auto',
    static: str | None = None,
    exporter: str = 'torchscript',
    opset: int | None = None,
    metadata: dict[str, str] | None = None,
    advance: Callable[[str], object] = lambda step: None,
) -> ExportResult:
    """Write a network to a file and compare both.

    Args:
        network: What to export, in evaluation mode, on the CPU; it stays as it is.
        out: File to write; where the outputs differ it is not written.
        format: One of :data:`mmlk.export.FORMATS`.
        sizes: (H, W) of the images to compare on; the first is that of the example, which a static file keeps.
        form: Fused form of the mixers of this package.
        static: ``'size'`` fixes height and width, ``'all'`` the number of images too (to 1).
        exporter: How ONNX is written.
        opset: Version of ONNX's operators.
        metadata: Written into the file.
        advance: Called with what is done next.

    Returns:
        The comparison; ``equal`` says whether the file was written.

    Raises:
        UsageError: A package is missing, or the network cannot be exported this way.
    """
    if exporter not in EXPORTERS:
        raise UsageError(f'the exporter must be one of {", ".join(EXPORTERS)}, got {exporter}')
    chosen = FORMATS[format]
    require_packages(format, exporter)
    network = network.eval()
    # Two images, as an axis of length 1 would be taken for a constant.
    image = network.example(1 if static == 'all' else 2, sizes[0])
    advance('running the model')
    with torch.no_grad():
        expected = network(image)
    signature = Signature(
        outputs=network.names(len(expected)),
        ranks=tuple(y.dim() for y in expected),
        dynamic_batch=static != 'all',
        dynamic_size=static is None,
        exporter=exporter,
        opset=opset,
        metadata=metadata or {},
    )
    folder = out.parent / f'.{out.name}.{os.getpid()}.part'
    part = folder / out.name
    try:
        try:
            folder.mkdir(parents=True)
            advance('exporting')
            _write(chosen, network, image, part, signature, form)
            run = _load(chosen, part)
            advance('comparing')
            differences = tuple(_compare(network, run, signature, sizes, image, expected))
            result = ExportResult(
                signature, tuple(tuple(y.shape) for y in expected), differences, part.stat().st_size, run
            )
            if result.equal:
                os.replace(part, out)
            return result
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(f'{out} could not be written ({error.strerror}): give a place that can be') from error


def require_packages(format: str, exporter: str) -> None:
    """Raise ``UsageError`` if a format needs packages that are not installed."""
    missing = FORMATS[format].missing(exporter)
    if missing:
        raise UsageError(
            f'--format {format} needs {" and ".join(missing)}, not installed here: pip install {" ".join(missing)} '
            '(the extra `export` of mmlk)'
        )


def _write(
    chosen: Format, network: ExportedNetwork, image: Tensor, path: Path, signature: Signature, form: str
) -> None:
    portable = make_portable(network, form)
    try:
        with exporting():
            # What is made at the first call, such as indices, is made before it is traced.
            portable(image)
            chosen.write(portable, image, path, signature)
    except (UsageError, OSError):
        raise
    except Exception as error:  # exporters raise whatever they like
        if os.environ.get('MMLK_TRACEBACK'):
            raise
        raise UsageError(_refusal(chosen, signature, error)) from error


def _refusal(chosen: Format, signature: Signature, error: Exception) -> str:
    """One sentence on an exporter that gave up, and on what may help."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    ways = []
    if signature.dynamic_size:
        ways.append('--static for one size')
    if chosen is FORMATS['onnx']:
        other = next(name for name in EXPORTERS if name != signature.exporter)
        ways.append(f'--exporter {other}')
    ways += ['another --format', '--backbone for the backbone alone']
    return (
        f'{chosen.title} cannot express this network: {type(error).__name__}: {reason[:300]}; try {", ".join(ways)} '
        '(MMLK_TRACEBACK=1 shows where)'
    )


def _load(chosen: Format, path: Path) -> Run:
    with exporting():
        return chosen.load(path)


def _compare(
    network: ExportedNetwork,
    run: Run,
    signature: Signature,
    sizes: Sequence[tuple[int, int]],
    image: Tensor,
    expected: Sequence[Tensor],
) -> Iterator[Difference]:
    """Differences on the example, and on images of whatever the file lets change."""
    cases = [(image, expected)]
    if signature.dynamic_size:
        cases += [(network.example(1 if signature.dynamic_batch else len(image), size), None) for size in sizes[1:]]
    elif signature.dynamic_batch:
        cases.append((network.example(1, sizes[0]), None))
    for example, outputs in cases:
        with torch.no_grad():
            outputs = network(example) if outputs is None else outputs
            try:
                actual = run(example)
            except Exception as error:  # ONNX Runtime has exceptions of its own
                raise UsageError(
                    f'the file does not run on an image {tuple(example.shape)}: '
                    f'{str(error).strip().splitlines()[0][:300]}; a larger --size keeps maps of one pixel from being '
                    'taken for constants, --static exports one size'
                ) from error
        yield find_differences(signature.outputs, example.shape, actual, outputs)
