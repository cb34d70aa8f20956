"""Damaged ADE20K- and Cityscapes-shaped data."""

import cv2
import numpy as np
import pytest

#: Data set -> folders of training pictures and label maps, and the ends of their names.
PLACES = {
    'ade20k': ('images/training', 'annotations/training', '.jpg', '.png'),
    'cityscapes': ('leftImg8bit/train', 'gtFine/train', '_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
}


@pytest.fixture(params=PLACES)
def case(request, copy_of):
    """Data, a picture and its label map, the folders of both, and their names in these."""
    data = copy_of(request.param)
    pictures, labels, picture_end, label_end = PLACES[request.param]
    picture = sorted((data.root / pictures).rglob(f'*{picture_end}'))[1]
    name = str(picture.relative_to(data.root / pictures)).removesuffix(picture_end)
    return data, picture, data.root / labels / f'{name}{label_end}', pictures, labels, name


def test_picture_without_label_map_and_the_reverse(case):
    data, picture, label, pictures, labels, name = case
    label.unlink()
    (problem,) = data.problems()
    assert problem.startswith(f'{pictures}: 1 file without a label map, such as {name}')
    assert 'unpack ' in problem
    label.write_bytes(b'')
    picture.unlink()
    count, alone = data.problems()
    assert count.startswith(f'{pictures}: 3 pictures instead of 4; delete the folder and run a command with --demo')
    assert alone.startswith(f'{labels}: 1 file without a picture, such as {name}')


def test_wrong_suffix(case):
    data, picture, _, pictures, labels, name = case
    picture.rename(picture.with_suffix('.JPEG'))
    suffix, *_ = data.problems()
    end = '.jpg' if data.name == 'ade20k' else '_leftImg8bit.png'
    assert suffix.startswith(f'{pictures}: 1 file is not named *{end}: {name}')
    assert suffix.endswith(f'.JPEG; rename or convert to *{end}, or remove')


def test_broken_picture_and_broken_label_map(case):
    data, picture, label, pictures, labels, name = case
    picture.write_bytes(picture.read_bytes()[:-300])
    label.write_bytes(b'no picture')
    first, second = data.problems()
    assert first.startswith(f'{pictures}: 1 picture that cannot be read: {name}')
    assert second.startswith(f'{labels}: 1 label map that cannot be read: {name}')
    assert 'no picture of a known format' in second


def test_what_is_not_in_the_sample_is_not_read(case):
    data, picture, *_ = case
    picture.write_bytes(b'')
    assert data.problems(sample=1) == []
    assert len(data.problems(sample=4)) == 1


def test_labels_that_are_no_class(case):
    data, _, label, _, labels, name = case
    pixels = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    pixels[:3, 0] = 200, 33, 151
    cv2.imwrite(str(label), pixels)
    (problem,) = data.problems()
    strange = '151, 200' if data.name == 'ade20k' else '33, 151, 200'
    allowed = '0 (ignored) and 1 to 150' if data.name == 'ade20k' else '0 to 18 and 255 (ignored)'
    assert problem.startswith(f'{labels}: 1 label map with labels that are no class ({strange}): {name}')
    assert f'labels are {allowed}' in problem
    # The largest labels that are right.
    pixels[:3, 0] = (0, 1, 150) if data.name == 'ade20k' else (0, 18, 255)
    cv2.imwrite(str(label), pixels)
    assert data.problems() == []


def test_coloured_label_map(case):
    data, picture, label, *_ = case
    cv2.imwrite(str(label), cv2.imread(str(picture)))
    (problem,) = data.problems()
    assert 'a picture with 3 colours instead of one label per pixel' in problem


def test_label_map_of_another_picture(case):
    data, _, label, _, labels, name = case
    cv2.imwrite(str(label), np.zeros((20, 30), np.uint8))
    (problem,) = data.problems()
    assert problem == (
        f'{labels}: 1 label map of another size than the picture: {name} (96 x 96 and 30 x 20); resize neither of the '
        'two, or both'
    )


class TestTrainingIdsOfCityscapes:
    def test_none_made_yet(self, copy_of):
        data = copy_of('cityscapes')
        for label in (data.root / 'gtFine').rglob('*_gtFine_labelTrainIds.png'):
            label.rename(label.with_name(label.name.replace('labelTrainIds', 'labelIds')))
        first, second = data.problems()
        assert first == (
            'gtFine/train: 4 label maps *_gtFine_labelTrainIds.png not made yet; type: pip install cityscapesscripts '
            f'&& CITYSCAPES_DATASET={data.root} csCreateTrainIdLabelImgs'
        )
        assert second.startswith('gtFine/val: 2 label maps')

    def test_other_files_of_the_archive_are_not_in_the_way(self, copy_of):
        data = copy_of('cityscapes')
        for label in list((data.root / 'gtFine').rglob('*_gtFine_labelTrainIds.png')):
            for kind in ('labelIds.png', 'color.png', 'instanceIds.png', 'polygons.json'):
                label.with_name(label.name.replace('labelTrainIds.png', kind)).touch()
        assert data.problems() == []

    def test_something_else(self, copy_of):
        data = copy_of('cityscapes')
        for label in list((data.root / 'gtFine').rglob('*.png')):
            label.rename(label.with_name('notes.txt'))
        first, *_ = data.problems()
        assert first == 'gtFine/train: no *_gtFine_labelTrainIds.png; unpack gtFine_trainvaltest.zip there'
