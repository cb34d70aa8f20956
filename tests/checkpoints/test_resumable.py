"""The newest checkpoint that can be read, and why the others are refused."""

import os

import pytest
import torch

from mmlk.checkpoints.resumable import find_newest_resumable, load_resumable
from mmlk.compat.checkpoint_loader import CheckpointError

CHECKPOINT = dict(
    meta=dict(epoch=0, iter=3),
    state_dict=dict(weight=torch.ones(64)),
    message_hub={},
    optimizer=dict(state={}),
    param_schedulers=[],
)


def save(folder, *names, **entries):
    for name in names:
        torch.save(CHECKPOINT | entries, folder / name)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class TestNewest:
    def test_by_number(self, tmp_path):
        save(tmp_path, 'iter_900.pth', 'iter_1000.pth', 'iter_200.pth', 'best_mIoU_iter_5000.pth', 'other.pth')
        (tmp_path / 'iter_2000.pth.17.part').write_bytes(b'half')
        assert find_newest_resumable(tmp_path) == (tmp_path / 'iter_1000.pth', [])

    def test_by_time_where_numbers_count_different_things(self, tmp_path):
        save(tmp_path, 'epoch_3.pth', 'iter_700.pth', 'epoch_2.pth')
        for age, name in enumerate(('iter_700.pth', 'epoch_3.pth', 'epoch_2.pth')):
            os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
        assert find_newest_resumable(tmp_path)[0].name == 'iter_700.pth'

    def test_damaged_ones_are_passed_over_and_named(self, tmp_path):
        save(tmp_path, 'iter_1.pth', 'iter_2.pth')
        save(tmp_path, 'iter_3.pth', optimizer=None)
        save(tmp_path, 'iter_4.pth')
        truncate(tmp_path / 'iter_4.pth')
        (tmp_path / 'iter_5.pth').write_bytes(b'')
        path, refused = find_newest_resumable(tmp_path)
        assert path == tmp_path / 'iter_2.pth'
        assert [reason.split()[0] for reason in refused] == [str(tmp_path / f'iter_{n}.pth') for n in (5, 4, 3)]
        assert 'is empty' in refused[0] and 'damaged' in refused[1] and "'optimizer'" in refused[2]

    def test_a_flipped_bit_in_a_weight(self, tmp_path):
        save(tmp_path, 'iter_1.pth', 'iter_2.pth')
        content = bytearray((tmp_path / 'iter_2.pth').read_bytes())
        content[content.index(torch.ones(64).numpy().tobytes()) + 9] ^= 4
        (tmp_path / 'iter_2.pth').write_bytes(content)
        path, (reason,) = find_newest_resumable(tmp_path)
        assert path.name == 'iter_1.pth' and 'damaged' in reason

    def test_nothing(self, tmp_path):
        assert find_newest_resumable(tmp_path) == (None, [])
        assert find_newest_resumable(tmp_path / 'missing') == (None, [])

    def test_where_last_checkpoint_points(self, tmp_path):
        out = tmp_path / 'out'
        out.mkdir()
        (tmp_path / 'last_checkpoint').write_text(str(out / 'iter_8.pth'))
        save(out, 'iter_8.pth', 'iter_12.pth')
        assert find_newest_resumable(tmp_path) == (out / 'iter_12.pth', [])


@pytest.mark.parametrize(
    ('entries', 'reason'),
    [
        (dict(state_dict=[1]), "holds list as the entry 'state_dict'"),
        (dict(message_hub=None), "holds NoneType as the entry 'message_hub'"),
        (dict(param_schedulers='none'), "holds str as the entry 'param_schedulers'"),
        (dict(meta=dict(epoch=1)), 'does not say at which epoch and iteration'),
        (dict(meta=dict(epoch=1, iter='3')), 'does not say at which epoch and iteration'),
        (dict(meta=dict(epoch=1, iter=-3)), 'does not say at which epoch and iteration'),
        (dict(meta=dict(epoch=True, iter=3)), 'does not say at which epoch and iteration'),
        (dict(meta=7), 'does not say at which epoch and iteration'),
    ],
)
def test_refused(tmp_path, entries, reason):
    save(tmp_path, 'a.pth', **entries)
    with pytest.raises(CheckpointError, match=reason) as error:
        load_resumable(tmp_path / 'a.pth')
    assert str(tmp_path / 'a.pth') in str(error.value)


def test_weights_alone(tmp_path):
    torch.save(CHECKPOINT['state_dict'], tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match="lacks the entry 'state_dict'"):
        load_resumable(tmp_path / 'weights.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds list, expected a dict'):
        load_resumable(tmp_path / 'list.pth')


def test_schedulers_are_optional(tmp_path):
    torch.save({key: value for key, value in CHECKPOINT.items() if key != 'param_schedulers'}, tmp_path / 'a.pth')
    assert load_resumable(tmp_path / 'a.pth')['meta']['iter'] == 3
