"""What people look at has the colours of the frame, and boxes in colours that all of them can tell apart."""

import cv2
import numpy as np
import pytest
from colour_model import square
from flown import detections, observation

from deploy.outputs import Outputs


@pytest.mark.parametrize(("index", "red", "green", "blue"), [(0, 230, 159, 0), (1, 86, 180, 233)])
def test_picture_keeps_its_colours_and_a_box_has_that_of_its_class(tmp_path, index, red, green, blue):
    image = square(1, 1, (250, 20, 30))
    told = observation(0, detections(((100, 80, 140, 110), 0.9, index)), image.copy())
    outputs = Outputs(tmp_path / "out", ("door", "window"), None, is_video=False, with_pictures=True)
    outputs.publish(told._replace(frame=told.frame._replace(name="a.png"), milliseconds={"network": 1.0}))
    outputs.finish()
    drawn = cv2.imread(str(tmp_path / "out" / "annotated" / "a.png"))
    assert drawn is not None
    assert drawn[115, 150].tolist() == [30, 20, 250]
    assert np.abs(drawn[110, 110] - np.array([blue, green, red])).max() < 30  # the lower side of the box
    assert np.array_equal(told.frame.image, image), "others hold the frame too"
