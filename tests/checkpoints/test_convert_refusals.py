"""Files that are not converted: nothing is written unless everything is explained."""

import pytest
import torch
from tiny_slak import authors_slak
from tool_runner import run_tool

from mmlk.checkpoints.convert import convert, write_checkpoint
from mmlk.errors import UsageError

pytestmark = pytest.mark.usefixtures('tiny_arch')


class TestRefusals:
    """Nothing is written unless everything is explained."""

    def run(self, tmp_path, checkpoint, *options):
        source = tmp_path / 'theirs.pth'
        if isinstance(checkpoint, bytes):
            source.write_bytes(checkpoint)
        elif checkpoint is not None:
            torch.save(checkpoint, source)
        result = run_tool('convert_checkpoint.py', source, tmp_path / 'out' / 'ours.pth', '--family', 'slak', *options)
        assert not (tmp_path / 'out').exists()
        return result.error

    def changed(self, **changes):
        return {key: value for key, value in (authors_slak() | changes).items() if value is not None}

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            ({'stages.0.0.extra': torch.ones(1)}, '1 keys that family slak does not explain (stages.0.0.extra)'),
            (
                {'stages.0.0.norm.weight': None},
                "fits no network of family slak; the nearest is dict(type='mmlk.SLaK', arch='tiny'), with 1 keys "
                'missing (stages.0.blocks.0.norm.weight)',
            ),
            (
                {'stages.0.0.gamma': torch.ones(5)},
                '1 of another shape (stages.0.blocks.0.layer_scale.gamma (5,) instead of (4,))',
            ),
            (
                {'stages.3.1.gamma': torch.ones(10)},
                '1 keys unexpected (stages.3.blocks.1.layer_scale.gamma)',
            ),
            ({'norm.bias': None}, '1 keys missing (norm.bias)'),
            ({'head.bias': None}, '1 keys missing (head.fc.bias)'),
            ({'module.head.bias': torch.ones(3)}, "holds head.bias twice, with and without 'module.' in front"),
            ({'note': 'text'}, '1 entries among its weights that are no tensors (note)'),
        ],
        ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
    )
    def test_altered_files(self, tmp_path, changes, message):
        assert message in self.run(tmp_path, self.changed(**changes))

    @pytest.mark.parametrize(
        ('checkpoint', 'message'),
        [
            (None, 'does not exist'),
            (b'', 'is empty'),
            (b'<html>not found</html>', 'is not a checkpoint written by torch.save'),
            ([1, 2], 'holds a list, expected a checkpoint'),
            ({'epoch': 3}, "holds no tensors, only 'epoch'"),
        ],
        ids=['absent', 'empty', 'text', 'list', 'no-tensors'],
    )
    def test_no_checkpoint(self, tmp_path, checkpoint, message):
        assert message in self.run(tmp_path, checkpoint)

    def test_truncated_file(self, tmp_path):
        torch.save(authors_slak(), tmp_path / 'whole.pth')
        whole = (tmp_path / 'whole.pth').read_bytes()
        assert 'truncated, damaged' in self.run(tmp_path, whole[: len(whole) // 2])

    def test_wrong_variant_and_unknown_names(self, tmp_path):
        message = self.run(tmp_path, authors_slak(), '--arch', 's')
        assert "is arch 'tiny' of family slak, not 's': give --arch tiny or leave it out" in message
        assert 'arch of family slak must be one of' in self.run(tmp_path, authors_slak(), '--arch', 'xl')
        with pytest.raises(UsageError, match="family must be one of .* got 'convnext'"):
            convert(authors_slak(), 'convnext')

    def test_wrong_direction(self, tmp_path):
        theirs = authors_slak()
        ours = convert(theirs, 'slak').checkpoint('')
        assert 'has the names of mmlk already' in self.run(tmp_path, ours)
        assert 'has the names of family slak already: leave out --reverse' in self.run(tmp_path, theirs, '--reverse')

    def test_ema_and_reverse(self, tmp_path):
        result = run_tool('convert_checkpoint.py', 'a', 'b', '--family', 'slak', '--ema', '--reverse')
        assert result.code == 2
        assert 'give one of them' in result.err

    def test_places_that_cannot_be_written(self, tmp_path):
        source = tmp_path / 'theirs.pth'
        torch.save(authors_slak(), source)
        before = source.read_bytes()
        for target, message in (
            (source, 'DST must be another file than SRC'),
            (tmp_path, 'is a directory'),
            (source / 'ours.pth', 'theirs.pth is a file: give a folder to write ours.pth in'),
        ):
            assert message in run_tool('convert_checkpoint.py', source, target, '--family', 'slak').error
        assert source.read_bytes() == before
        assert list(tmp_path.iterdir()) == [source]

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        target = tmp_path / 'ours.pth'
        target.write_text('old')

        def save(checkpoint, file):
            file.write(b'half')
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(torch, 'save', save)
        with pytest.raises(UsageError, match=r'could not be written \(No space left on device\)'):
            write_checkpoint({}, target)
        assert target.read_text() == 'old'
        assert list(tmp_path.iterdir()) == [target]
