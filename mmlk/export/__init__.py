"""Networks as files that run without this package: ONNX, torch.export, TorchScript."""

from mmlk.export.check import Difference, find_differences
from mmlk.export.formats import FORMATS, Signature
from mmlk.export.networks import OUTPUTS, ExportedNetwork
from mmlk.export.portable import make_portable
from mmlk.export.writer import ExportResult, export_network

__all__ = [
    'FORMATS',
    'OUTPUTS',
    'Difference',
    'ExportResult',
    'ExportedNetwork',
    'Signature',
    'export_network',
    'find_differences',
    'make_portable',
]
