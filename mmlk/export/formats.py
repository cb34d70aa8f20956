"""The three formats: how a network is written, and how the file is run again."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmlk.errors import UsageError
from mmlk.export.portable import replace_adaptive_pooling
from mmlk.ops import default_backend

INPUT = 'image'
#: Name under which the metadata lie in a file of PyTorch.
METADATA_FILE = 'metadata.json'
#: A file of ONNX is one message of protobuf, which may not be larger.
ONNX_LIMIT = 2**31 - 2**24

EXPORTERS = ('torchscript', 'dynamo')
#: Oldest versions of ONNX's operators that the exporters write: LayerNormalization is there from 17 on.
DEFAULT_OPSET = {'torchscript': 17, 'dynamo': 18}

#: Takes an image, gives the outputs.
Run = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Signature:
    """How a file is called.

    Attributes:
        outputs: Names of the outputs.
        ranks: Number of axes of each output.
        dynamic_batch: Any number of images; otherwise that of the example.
        dynamic_size: Any height and width; otherwise those of the example.
        exporter: How ONNX is written, one of :data:`EXPORTERS`.
        opset: Version of ONNX's operators; ``None`` takes that of :data:`DEFAULT_OPSET`.
        metadata: Written into the file, names and values as text.
    """

    outputs: tuple[str, ...]
    ranks: tuple[int, ...]
    dynamic_batch: bool = True
    dynamic_size: bool = True
    exporter: str = 'torchscript'
    opset: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def axes(self, name: str) -> dict[int, str]:
        """Axes of an input or output that may change, and what they are called."""
        index = -1 if name == INPUT else self.outputs.index(name)
        rank = 4 if name == INPUT else self.ranks[index]
        # One map of the size of the image, or several of sizes of their own.
        number = '' if len(self.outputs) == 1 or name == INPUT else f'_{name}'
        axes = {0: 'batch'} if self.dynamic_batch else {}
        if self.dynamic_size and rank == 4:
            axes |= {2: f'height{number}', 3: f'width{number}'}
        return axes

    def dims(self) -> dict[int, object]:
        """Axes of the image that may change, for ``torch.export``."""
        return dict.fromkeys(self.axes(INPUT), torch.export.Dim.DYNAMIC)


class OnnxFormat:
    """ONNX, checked with ONNX Runtime on the CPU."""

    title: ClassVar[str] = 'ONNX'
    suffixes: ClassVar[tuple[str, ...]] = ('.onnx',)

    @staticmethod
    def missing(exporter: str) -> list[str]:
        """Packages that are needed and not installed."""
        needed = ['onnx', 'onnxruntime', *(['onnxscript'] if exporter == 'dynamo' else [])]
        return [name for name in needed if importlib.util.find_spec(name) is None]

    @staticmethod
    def write(network: nn.Module, image: Tensor, path: Path, signature: Signature) -> None:
        """Write the network; it is changed on the way.

        Raises:
            UsageError: It is too large for one file.
        """
        import onnx

        size = sum(value.nbytes for value in network.state_dict().values())
        if size > ONNX_LIMIT:
            raise UsageError(
                f'the weights take {size / 2**30:.1f} GiB and a file of ONNX holds 2: use --format torch_export'
            )
        replace_adaptive_pooling(network)
        names = (INPUT, *signature.outputs)
        options = dict(
            input_names=[INPUT],
            output_names=list(signature.outputs),
            opset_version=signature.opset or DEFAULT_OPSET[signature.exporter],
        )
        if signature.exporter == 'dynamo':
            program = torch.onnx.export(
                network, (image,), dynamo=True, dynamic_shapes=[signature.dims()], verbose=False, **options
            )
            program.save(path, external_data=False)
        else:
            axes = {name: signature.axes(name) for name in names}
            torch.onnx.export(network, (image,), path, dynamo=False, dynamic_axes=axes, **options)
        model = onnx.load(path)
        onnx.helper.set_model_props(model, signature.metadata)
        onnx.checker.check_model(model)
        onnx.save(model, path)

    @staticmethod
    def load(path: Path) -> Run:
        """The file in ONNX Runtime, with as many threads as PyTorch has."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        return lambda image: [torch.from_numpy(y) for y in session.run(None, {INPUT: image.numpy()})]


class TorchExportFormat:
    """``torch.export``: read by ``torch.export.load`` and AOTInductor."""

    title: ClassVar[str] = 'torch.export'
    suffixes: ClassVar[tuple[str, ...]] = ('.pt2',)

    @staticmethod
    def missing(exporter: str) -> list[str]:
        """Nothing but torch is needed."""
        return []

    @staticmethod
    def write(network: nn.Module, image: Tensor, path: Path, signature: Signature) -> None:
        """Write the network."""
        program = torch.export.export(network, (image,), dynamic_shapes=[signature.dims()])
        torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(signature.metadata)})

    @staticmethod
    def load(path: Path) -> Run:
        """The file in PyTorch, without the classes it was written from."""
        module = torch.export.load(path).module()
        return lambda image: list(module(image))


class TorchScriptFormat:
    """TorchScript by tracing: read by ``torch.jit.load`` and libtorch."""

    title: ClassVar[str] = 'TorchScript'
    suffixes: ClassVar[tuple[str, ...]] = ('.pt', '.ts', '.torchscript')

    @staticmethod
    def missing(exporter: str) -> list[str]:
        """Nothing but torch is needed."""
        return []

    @staticmethod
    def write(network: nn.Module, image: Tensor, path: Path, signature: Signature) -> None:
        """Write the network."""
        traced = torch.jit.trace(network, (image,), check_trace=False)
        torch.jit.save(traced, path, _extra_files={METADATA_FILE: json.dumps(signature.metadata)})

    @staticmethod
    def load(path: Path) -> Run:
        """The file in PyTorch, without the classes it was written from."""
        module = torch.jit.load(path)
        return lambda image: list(module(image))


Format = type[OnnxFormat] | type[TorchExportFormat] | type[TorchScriptFormat]

FORMATS: dict[str, Format] = {
    'onnx': OnnxFormat,
    'torch_export': TorchExportFormat,
    'torchscript': TorchScriptFormat,
}


@contextmanager
def exporting():
    """No gradients; code that calls the op by itself gets PyTorch's convolution; warnings to developers stay away."""
    with torch.no_grad(), default_backend('reference'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
