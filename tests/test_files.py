"""A file is there whole or not at all."""

import pytest

from mmlk.files import write_whole, written_whole


@pytest.mark.parametrize('content', ['Größe\n', b'\x00\xff'], ids=['text', 'bytes'])
def test_replaces_and_leaves_nothing_beside(tmp_path, content):
    path = tmp_path / 'new' / 'file'
    for _ in range(2):
        write_whole(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_what_was_there(tmp_path):
    path = tmp_path / 'file'
    path.write_text('before')
    with pytest.raises(RuntimeError, match='half'), written_whole(path) as partial:
        partial.write_text('half of')
        raise RuntimeError('half')
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError):
        write_whole(tmp_path / 'file' / 'inside', '')
