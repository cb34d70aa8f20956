"""The authors' files behind ``checkpoints/<name>.pth``: what they are called, where they are, how they are converted.

``<name>`` is that of the config in configs/imagenet that trains the same weights: ``_in21k_pretrain`` are those after
pretraining on ImageNet-21K, ``_in21k`` and ``_in21k_384`` those finetuned from them on ImageNet-1K. ``replknet_xl`` is
XL after pretraining on MegData73M, which no config can repeat: the data is not public.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Stands for the name of a file that is only known by its link.
UNNAMED = 'DOWNLOADED.pth'


@dataclass(frozen=True)
class OfficialFile:
    """A checkpoint that the authors of a network published.

    Attributes:
        file: Its name.
        source: Where it is.
        family: As ``tools/convert_checkpoint.py --family`` takes it.
        arch: As ``--arch`` takes it.
    """

    file: str
    source: str
    family: str
    arch: str

    def instruction(self, target: str) -> str:
        """What to do to have the weights in ``target``, as a part of a sentence."""
        file = f'the file at {self.source} as {UNNAMED}' if self.file == UNNAMED else f'{self.file} from {self.source}'
        return (
            f'fetch {file} and run `python tools/convert_checkpoint.py {self.file} {target} --family {self.family} '
            f'--arch {self.arch}`'
        )


def _drive(identifier: str) -> str:
    return f'https://drive.google.com/file/d/{identifier}/view'


def _surfdrive(token: str) -> str:
    return f'https://surfdrive.surf.nl/files/index.php/s/{token}'


def _replknet(arch: str, file: str, identifier: str) -> OfficialFile:
    return OfficialFile(file, _drive(identifier), 'replknet', arch)


def _unireplknet(arch: str, file: str) -> OfficialFile:
    source = 'https://huggingface.co/DingXiaoH/UniRepLKNet'
    return OfficialFile(f'unireplknet_{arch}_{file}.pth', source, 'unireplknet', arch)


#: By ``<name>``.
OFFICIAL_FILES: dict[str, OfficialFile] = {
    'replknet_31b': _replknet('31b', 'RepLKNet-31B_ImageNet-1K_224.pth', '1azQUiCxK9feYVkkrPqwVPBtNsTzDrX7S'),
    'replknet_31b_384': _replknet('31b', 'RepLKNet-31B_ImageNet-1K_384.pth', '1vo-P3XB6mRLUeDzmgv90dOu73uCeLfZN'),
    'replknet_31b_in21k_pretrain': _replknet(
        '31b', 'RepLKNet-31B_ImageNet-22K.pth', '1PYJiMszZYNrkZOeYwjccvxX8UHMALB7z'
    ),
    'replknet_31b_in21k': _replknet(
        '31b', 'RepLKNet-31B_ImageNet-22K-to-1K_224.pth', '1DslZ2voXZQR1QoFY9KnbsHAeF84hzS0s'
    ),
    'replknet_31b_in21k_384': _replknet(
        '31b', 'RepLKNet-31B_ImageNet-22K-to-1K_384.pth', '1Sc46BWdXXm2fVP-K_hKKU_W8vAB-0duX'
    ),
    'replknet_31l_in21k_pretrain': _replknet(
        '31l', 'RepLKNet-31L_ImageNet-22K.pth', '16jcPsPwo5rko7ojWS9k_W-svHX-iFknY'
    ),
    'replknet_31l_in21k_384': _replknet(
        '31l', 'RepLKNet-31L_ImageNet-22K-to-1K_384.pth', '1JYXoNHuRvC33QV1pmpzMTKEni1hpWfBl'
    ),
    'replknet_xl': _replknet('xl', 'RepLKNet-XL_MegData73M_pretrain.pth', '1CBHAEUlCzoHfiAQmMIjZhDMAIyHUmAAj'),
    'replknet_xl_320': _replknet('xl', 'RepLKNet-XL_MegData73M_ImageNet1K.pth', '1tPC60El34GntXByIRHb-z-Apm4Y5LX1T'),
    'replknet_31b_120e': _replknet('31b', UNNAMED, '1aQQiGfCoiBYSw2Ms506-ZFpnC9V6891s'),
    'replknet_31b_k13_120e': _replknet('31b_k13', UNNAMED, '15gohkZof_Qi4__jluUXacB_0Gvbuf5GI'),
    'slak_t': OfficialFile('SLaK_tiny_checkpoint.pth', _drive('1Iut2f5FMS_77jGPYoUJDQzDIXOsax1u4'), 'slak', 't'),
    'slak_s': OfficialFile('SLaK_small_checkpoint.pth', _drive('1etM6KQbnlsgDAZ37adsQJ3UI8Bbv2AVe'), 'slak', 's'),
    'slak_b': OfficialFile('SLaK_base_checkpoint.pth', _drive('1duUxUD3RSblQ6eDHd0n-u0aulwGypf1j'), 'slak', 'b'),
    'slak_t_120e': OfficialFile(UNNAMED, _surfdrive('WiQYWNclJ9bW5XV'), 'slak', 't'),
    'slak_t_31_120e': OfficialFile(UNNAMED, _surfdrive('VXzBxFXQdlAQ7h8'), 'slak', 't'),
    'slak_t_61_120e': OfficialFile(UNNAMED, _surfdrive('VpR1te71NmVImJb'), 'slak', 't'),
    'shiftwise_t': OfficialFile(UNNAMED, _drive('1U4DOZv5V9_7wJdqdicjp0tCmNIdRNJOc'), 'shiftwise', 'v2_t'),
    'unireplknet_a': _unireplknet('a', 'in1k_224_acc77.03'),
    'unireplknet_f': _unireplknet('f', 'in1k_224_acc78.58'),
    'unireplknet_p': _unireplknet('p', 'in1k_224_acc80.23'),
    'unireplknet_n': _unireplknet('n', 'in1k_224_acc81.64'),
    'unireplknet_t': _unireplknet('t', 'in1k_224_acc83.21'),
    'unireplknet_s': _unireplknet('s', 'in1k_224_acc83.91'),
    'unireplknet_s_in21k_pretrain': _unireplknet('s', 'in22k_pretrain'),
    'unireplknet_b_in21k_pretrain': _unireplknet('b', 'in22k_pretrain'),
    'unireplknet_l_in21k_pretrain': _unireplknet('l', 'in22k_pretrain'),
    'unireplknet_xl_in21k_pretrain': _unireplknet('xl', 'in22k_pretrain'),
    'unireplknet_s_in21k_384': _unireplknet('s', 'in22k_to_in1k_384_acc86.44'),
    'unireplknet_b_in21k_384': _unireplknet('b', 'in22k_to_in1k_384_acc87.40'),
    'unireplknet_l_in21k_384': _unireplknet('l', 'in22k_to_in1k_384_acc87.88'),
    'unireplknet_xl_in21k_384': _unireplknet('xl', 'in22k_to_in1k_384_acc87.96'),
}
