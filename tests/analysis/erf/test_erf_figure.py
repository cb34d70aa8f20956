import cv2
import numpy as np
import pytest

from mmlk.analysis.erf import Erf, Panel, draw_erf
from mmlk.analysis.erf.area import Area
from mmlk.analysis.erf.figure import format_area


def panel(name, weights='a.pth', trained=True, shape=(64, 64), half=8):
    matrix = np.zeros(shape)
    row, column = shape[0] // 2, shape[1] // 2
    matrix[row - half : row + half + 1, column - half : column + half + 1] = 1
    return Panel(name, weights, Erf(matrix, 3, (2, 2), 5), trained)


def texts(figure):
    found = [figure._suptitle.get_text()] if figure._suptitle else []
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_ylabel(), *(text.get_text() for text in axis.texts)]
        found += [cell.get_text().get_text() for table in axis.tables for cell in table.get_celld().values()]
    return found


def test_draws_a_png(tmp_path):
    path = tmp_path / 'new' / 'erf.png'
    draw_erf([panel('one'), panel('two', shape=(48, 96))], path)
    picture = cv2.imread(str(path))
    # Black, and the brightest colour of the map.
    assert (picture < 10).all(-1).mean() > 0.1
    assert (np.abs(picture.astype(int) - (191, 253, 252)).max(-1) < 5).mean() > 0.005
    assert list(path.parent.iterdir()) == [path]


def test_says_what_is_drawn():
    panels = [panel('pelk_t'), panel('slak_t', 'random weights', trained=False)]
    found = texts(draw_erf(panels, title='3 images', thresholds=[0.5, 0.99]))
    assert {'3 images', 'pelk_t', 'slak_t', 'a.pth, stage 3', 'random weights, stage 3'} <= set(found)
    assert 'log10(contribution + 1), brightest tenth = 1' in found
    assert found.count('7.1 % (17)') == 2
    red = [text for axis in draw_erf(panels).subfigs[0].axes for text in axis.texts if text.get_color() == '#c00000']
    assert [text.get_text() for text in red] == ['random weights, stage 3']


def test_rows_of_four():
    figure = draw_erf([panel(str(number)) for number in range(6)])
    axes = [axis for axis in figure.subfigs[0].axes if axis.get_title()]
    assert len({round(axis.get_position().y0, 2) for axis in axes}) <= 2
    assert len(axes) == 6


def test_faint_tails_stay_dark_and_outliers_blind_nobody():
    """Twenty pixels that hold more than a tenth of the sum set the scale, a single one does not, tails never."""
    matrix = np.full((200, 200), 1e-6)
    matrix[80:120, 80:120] = 1
    matrix[0, :20] = 10
    shown = draw_erf([Panel('', '', Erf(matrix, 3, (2, 2), 1))], scale='linear').axes[0].images[0].get_array()
    assert shown[0, 0] == 1
    assert shown[100, 100] == pytest.approx(0.1)
    matrix[0, :20] = 1e-6
    matrix[0, 0] = 100
    shown = draw_erf([Panel('', '', Erf(matrix, 3, (2, 2), 1))], scale='linear').axes[0].images[0].get_array()
    assert shown[100, 100] == 1
    assert shown[50, 50] < 1e-5


def test_linear_scale():
    assert 'contribution, brightest tenth = 1' in texts(draw_erf([panel('one')], scale='linear'))


def test_area_as_text():
    assert format_area(Area(0.99, (485, 485), 0.2243)) == '22.4 % (485)'
    assert format_area(Area(0.99, (64, 96), 1.0)) == '100.0 % (64 x 96)'


def test_nothing_to_draw():
    with pytest.raises(ValueError, match='at least one panel'):
        draw_erf([])
