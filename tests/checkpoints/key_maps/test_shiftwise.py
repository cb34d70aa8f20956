"""The authors' state dicts of SW: every key explained, every tensor at its place, and back again."""

import pytest
import torch
from authors_keys import load_keys
from mmengine.registry import MODELS
from torch import nn

import mmlk  # noqa: F401
from mmlk.checkpoints.key_maps.shiftwise import KEY_MAPS, V1, V2

#: Key list, table, architecture.
LISTS = [('sw1_t', V1, 'v1_t'), ('sw2_t', V2, 'v2_t'), ('sw2_s', V2, 'v2_s')]


class Classifier(nn.Module):
    """A bare backbone's names, and the head's."""

    def __init__(self, **arguments) -> None:
        super().__init__()
        self.backbone = MODELS.build(dict(type='mmlk.ShiftWiseNet', final_norm=True, **arguments))
        self.head = nn.ModuleDict({'fc': nn.Linear(self.backbone.channels[-1], 1000)})

    def renamed_state_dict(self) -> dict[str, torch.Tensor]:
        return {key.removeprefix('backbone.'): value for key, value in self.state_dict().items()}


def on_meta(**arguments) -> Classifier:
    with torch.device('meta'):
        return Classifier(**arguments)


@pytest.mark.parametrize(('name', 'table', 'arch'), LISTS)
def test_every_key_has_its_place(name, table, arch):
    shapes, params = load_keys(name)
    model = on_meta(arch=arch)
    own = model.renamed_state_dict()
    translated = {table.to_ours(key): shape for key, shape in shapes.items()}
    assert None not in translated
    assert len(translated) == len(shapes)
    assert translated == {key: tuple(value.shape) for key, value in own.items()}
    assert sum(p.numel() for p in model.parameters()) == params
    # Backwards.
    assert {table.to_theirs(key) for key in own} == set(shapes)
    assert all(table.to_theirs(table.to_ours(key)) == key for key in shapes)


@pytest.mark.parametrize(('name', 'table', 'arch'), LISTS)
def test_only_one_table_explains_a_file(name, table, arch):
    shapes, _ = load_keys(name)
    (other,) = (entry for entry in KEY_MAPS if entry is not table)
    assert any(other.to_ours(key) is None for key in shapes)


@pytest.mark.parametrize(('name', 'table', 'version'), [('sw1_t', V1, 'v1'), ('sw2_t', V2, 'v2')])
def test_distinct_values_arrive_bit_equal(name, table, version):
    """A tiny network with the authors' names: each tensor holds its own number, forth and back."""
    arguments = dict(depths=(1, 2, 1, 1), base_channels=(12, 16, 20, 24), kernel_size=(13, 9, 9, 7, 3))
    backbone = MODELS.build(dict(type='mmlk.ShiftWiseNet', arch=f'{version}_t', final_norm=True, **arguments))
    authors = {table.to_theirs(key): value for key, value in backbone.state_dict().items()}
    # These are keys of the authors' networks.
    assert set(authors) <= set(load_keys(name)[0])
    for number, (key, value) in enumerate(authors.items()):
        authors[key] = torch.full_like(value, number + 1)
    ours = {table.to_ours(key): value for key, value in authors.items()}
    backbone.load_state_dict(ours, strict=True)
    state = backbone.state_dict()
    for number, key in enumerate(authors):
        assert (state[table.to_ours(key)] == number + 1).all(), key
    back = {table.to_theirs(key): value for key, value in state.items()}
    assert list(back) == list(authors)
    assert all(torch.equal(back[key], authors[key]) for key in authors)


def test_horizontal_and_vertical():
    """bn_lora1 belongs to the horizontal strip; SLaK's LoRA1 is the vertical one."""
    for table in KEY_MAPS:
        assert (
            table.to_ours('stages.0.0.large_kernel.bn_lora1.weight') == 'stages.0.blocks.0.mixer.horizontal_norm.weight'
        )
        assert (
            table.to_ours('stages.0.0.large_kernel.bn_lora2.weight') == 'stages.0.blocks.0.mixer.vertical_norm.weight'
        )


@pytest.mark.parametrize('table', KEY_MAPS, ids=lambda table: table.family)
def test_merged_files_and_index_tables(table):
    key = 'stages.2.17.large_kernel.LoRA.weight'
    assert table.to_ours(key) == 'stages.2.blocks.17.mixer.paths.0'
    for name in ('rep1', 'ghost', 'ghost1', 'loras.pad_hv', 'loras.idx_identit1', 'loras.idx_out'):
        key = f'stages.2.17.large_kernel.{name}'
        assert table.to_ours(key) is None
        assert table.drop_reason(key) == 'index table, which follows from the configuration'
    assert table.drop_reason('stages.2.17.large_kernel.LoRAs.0.weight') is None


def test_merged_network_has_one_path():
    shapes, params = load_keys('sw2_t')
    model = on_meta(arch='v2_t', num_paths=1)
    merged = {key.replace('LoRAs.0', 'LoRA') for key in shapes if 'LoRAs.1' not in key}
    assert {V2.to_ours(key) for key in merged} == set(model.renamed_state_dict())
    assert sum(p.numel() for p in model.parameters()) == 31_002_670 == params - 787_590
