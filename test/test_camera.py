"""The simulated robot's camera, as a listener sees it."""

import io

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import to_ns
from lebot_rl_ros.sim.model import ONBOARD
from lebot_rl_ros.sim.render import Renderer
from lebot_rl_ros.sim.simulation import Simulation
from ros_graph import fresh_domain, node_process, probe


def test_pictures_come_raw_and_compressed_with_calibration_and_one_stamp():
    try:
        Renderer(Simulation(load_robot()), width=32, height=24, camera=ONBOARD).close()
    except RuntimeError as error:
        pytest.skip(str(error))
    domain = fresh_domain()
    given = {'camera_rate': 10.0, 'wait_for_graph': 'false', 'real_time_factor': 1.0}
    with probe(domain) as listening, node_process(domain, 'sim', **given):
        raw = listening.listen(Image, 'camera/image_raw')
        jpeg = listening.listen(CompressedImage, 'camera/image_raw/compressed')
        info = listening.listen(CameraInfo, 'camera/camera_info')
        listening.until(lambda: min(len(raw), len(jpeg), len(info)) > 4, 'pictures', 40.0)
    from PIL import Image as Picture

    stamps = [{to_ns(m.header.stamp): m for m in messages} for messages in (raw, jpeg, info)]
    stamp = max(set(stamps[0]) & set(stamps[1]) & set(stamps[2]))
    image, compressed, calibration = (by_stamp[stamp] for by_stamp in stamps)
    assert {m.header.frame_id for m in (image, compressed, calibration)} == {
        'camera_optical_frame'
    }
    pixels = np.array(image.data).reshape(image.height, image.width, 3).astype(float)
    decoded = np.array(Picture.open(io.BytesIO(bytes(compressed.data)))).astype(float)
    assert np.abs(pixels - decoded).mean() < 3.0
    # the camera looks ahead: sky above, bluer than the floor below
    sky, floor = pixels[10].mean(axis=0), pixels[-10].mean(axis=0)
    assert sky[2] - sky[0] > floor[2] - floor[0] + 5
    # 60 degrees across 240 rows: f = 120 / tan(30 degrees)
    assert calibration.k[0] == pytest.approx(207.846, abs=1e-3)
    # stamps are 0.1 s of robot time apart
    assert set(np.diff(sorted(stamps[0]))) == {100_000_000}
