import cv2
import numpy as np

from mmlk.analysis.segmentation_figure import LEGEND_LIMIT, _legend_classes, draw_segmentation


def test_draws_a_png(tmp_path):
    label = np.tile(np.array([[0, 1, 255]]), (30, 10))
    image = np.full((30, 30, 3), 128, np.uint8)
    path = tmp_path / 'new' / 'figure.png'
    draw_segmentation([image] * 2, [label] * 2, [label[:, ::-1]] * 2, ['sky', 'sea'], [(255, 0, 0), (0, 0, 255)], path)
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 400
    # Red, blue and grey fill a good part of it each.
    for bgr in ([0, 0, 255], [255, 0, 0], [128, 128, 128]):
        assert (picture == bgr).all(-1).mean() > 0.05
    assert list(path.parent.iterdir()) == [path]


def test_legend_names_labels_first_then_the_largest_predictions():
    label = np.array([[3, 3], [255, 1]])
    prediction = np.array([np.arange(50), np.full(50, 49)])
    shown, more = _legend_classes([label], [prediction], 50)
    assert shown[:3] == [1, 3, 49]
    assert len(shown) == LEGEND_LIMIT
    assert len(shown) + more == 50
