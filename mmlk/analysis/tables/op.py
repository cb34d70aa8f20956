"""Latency of large depthwise convolutions: RepLKNet (arXiv 2203.06717), Table 1.

24 stacked depthwise layers on an input (64, 384, R, R), float32, forward, on a GTX 2080 Ti with PyTorch 1.9 and cuDNN
7.6.5.
"""

BATCH, CHANNELS, LAYERS = 64, 384, 24
SOURCE = 'arXiv 2203.06717, Table 1'
HARDWARE = 'GTX 2080 Ti, float32, PyTorch 1.9'

KERNELS = (3, 5, 7, 9, 13, 17, 21, 27, 29, 31)

#: (R, implementation) -> milliseconds of all 24 layers as printed, one per kernel size.
MILLISECONDS = {
    (16, 'PyTorch'): ('5.6', '11.0', '14.4', '17.6', '36.0', '57.2', '83.4', '133.5', '150.7', '171.4'),
    (16, 'MegEngine'): ('5.6', '6.5', '6.4', '6.9', '7.5', '8.4', '8.4', '8.4', '8.3', '8.4'),
    (32, 'PyTorch'): ('21.9', '34.1', '54.8', '76.1', '141.2', '230.5', '342.3', '557.8', '638.6', '734.8'),
    (32, 'MegEngine'): ('21.9', '28.7', '34.6', '40.6', '52.5', '64.5', '73.9', '87.9', '92.7', '96.7'),
    (64, 'PyTorch'): ('69.6', '141.2', '228.6', '319.8', '600.0', '977.7', '1454.4', '2371.1', '2698.4', '3090.4'),
    (64, 'MegEngine'): ('69.6', '112.6', '130.7', '152.6', '199.7', '251.5', '301.0', '378.2', '406.0', '431.7'),
}
