"""Export a trained model to ONNX, torch.export or TorchScript, fused, and prove that the file gives its outputs."""

import argparse
import sys
from pathlib import Path

from mmlk.cli.arguments import add_cfg_options, image_size, make_parser, positive_float, positive_int
from mmlk.cli.errors import BUILD_ERRORS, one_sentence

EXAMPLES = """\
  python tools/export.py configs/imagenet/pelk_t.py work_dirs/pelk_t/epoch_300.pth pelk_t.onnx
  python tools/export.py CONFIG CKPT OUT.onnx --preprocess --output probabilities   pixel values in, probabilities out
  python tools/export.py CONFIG CKPT OUT.onnx --static --size 512x1024              one size, one image, for TensorRT
  python tools/export.py CONFIG CKPT OUT.pt2                                        torch.export
  python tools/export.py CONFIG CKPT OUT.pt                                         TorchScript
  python tools/export.py CONFIG CKPT OUT.onnx --backbone                            feature maps of any backbone

Ends with status 0 where the file gives the outputs of the model and is written, 1 where it gives others (nothing is
written), 2 on wrong usage. docs/export.md says how to run the files.
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config of the model, or mmlk::FOLDER/NAME.py from any directory')
    parser.add_argument('checkpoint', metavar='CKPT', help='its checkpoint')
    parser.add_argument('out', metavar='OUT', type=Path, help='file to write: .onnx, .pt2, or .pt, .ts, .torchscript')
    parser.add_argument(
        '--format', choices=['onnx', 'torch_export', 'torchscript'], help='default: that of the suffix of OUT'
    )
    parser.add_argument(
        '--size',
        type=image_size,
        nargs='+',
        metavar='HxW',
        help='images to compare on, the first to export with (default: 224 classifiers, 512 others, and a larger one)',
    )
    parser.add_argument(
        '--static',
        nargs='?',
        choices=['all', 'size'],
        const='all',
        help='fix height and width to --size (size), and the number of images to 1 (all, the default)',
    )
    parser.add_argument(
        '--output', choices=['logits', 'probabilities'], default='logits', help='of classifiers and segmentors (logits)'
    )
    parser.add_argument(
        '--preprocess', action='store_true', help='take pixel values from 0 to 255 and normalise them in the file'
    )
    parser.add_argument('--backbone', action='store_true', help='only the backbone: its feature maps')
    parser.add_argument(
        '--form', choices=['auto', 'dense', 'strips'], default='auto', help='fused form (default: what is faster)'
    )
    parser.add_argument(
        '--exporter',
        choices=['torchscript', 'dynamo'],
        default='torchscript',
        help='how PyTorch writes ONNX (torchscript: seconds, older opsets; dynamo: its newer way, slower)',
    )
    parser.add_argument('--opset', type=positive_int, metavar='N', help='version of ONNX operators (17, dynamo 18)')
    parser.add_argument(
        '--seconds', type=positive_float, metavar='S', default=3.0, help='to time the model and the file for, each (3)'
    )
    parser.add_argument('--force', action='store_true', help='replace OUT')
    parser.add_argument('--demo', action='store_true', help='the checkpoint comes from `tools/train.py CONFIG --demo`')
    add_cfg_options(parser)
    parser.set_defaults(work_dir=None, launcher='none')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    # RuntimeError: memory is short.
    with one_sentence(*BUILD_ERRORS, RuntimeError):
        from mmlk.cli.export import run

        return run(args)


if __name__ == '__main__':
    sys.exit(main())
