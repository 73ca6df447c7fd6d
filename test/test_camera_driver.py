"""The camera's node as a process, before a camera on the loopback: what does a listener get?"""

import io
import signal
import threading

import numpy as np
import pytest
from PIL import Image as Picture
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from camera_samples import (
    HEIGHT,
    INFO,
    WIDTH,
    camera,
    decoded,
    from_jpeg,
    write_video,
)
from lebot_rl_ros.ros.camera import PicturePublisher
from lebot_rl_ros.ros.convert import to_ns
from ros_graph import fresh_domain, node_process, probe

NODE, TOPIC = '/camera_driver', 'camera/image_raw'
OK, WARN, ERROR = range(3)


def number_of(message):
    """The number in a raw message."""
    assert (message.encoding, message.step, message.is_bigendian) == ('rgb8', 3 * WIDTH, 0)
    return decoded(np.array(message.data, np.uint8).reshape(message.height, message.width, 3))


def state(listening, level, words):
    """Wait for the node to be in this state; its values."""

    def reached():
        now, message, values = listening.health.get(NODE, (-1, '', {}))
        return (now, words in message) == (level, True) and values

    return listening.until(reached, f'{words!r} at level {level}')


def test_each_picture_comes_in_three_topics_with_one_stamp(tmp_path):
    path = tmp_path / 'head.yaml'
    path.write_text(INFO)
    domain = fresh_domain()
    with camera() as (mjpeg, feeder), probe(domain) as listening:
        raw = listening.listen(Image, TOPIC)
        jpeg = listening.listen(CompressedImage, f'{TOPIC}/compressed')
        info = listening.listen(CameraInfo, 'camera/camera_info')
        before = listening.node.get_clock().now().nanoseconds
        with node_process(domain, 'camera_driver', source=mjpeg.url, camera_info=path):
            listening.until(lambda: min(len(raw), len(jpeg), len(info)) > 10, 'pictures')
            values = state(listening, OK, 'running')
            after = listening.node.get_clock().now().nanoseconds
    by_stamp = [{to_ns(m.header.stamp): m for m in messages} for messages in (raw, jpeg, info)]
    stamps = sorted(set.intersection(*map(set, by_stamp)))
    assert len(stamps) > 5
    assert before < stamps[0] < stamps[-1] < after
    numbers = []
    for stamp in stamps:
        image, compressed, calibration = (messages[stamp] for messages in by_stamp)
        numbers.append(number_of(image))
        assert bytes(compressed.data) == feeder.sent[numbers[-1]]
        assert compressed.format == 'jpeg'
        assert {m.header.frame_id for m in (image, compressed, calibration)} == {
            'camera_optical_frame'
        }
        assert (calibration.width, calibration.height) == (WIDTH, HEIGHT)
    assert numbers == sorted(set(numbers))
    assert calibration.distortion_model == 'plumb_bob'
    assert calibration.d.tolist() == [0.1, -0.2, 0.001, 0.002, 0.0]
    assert calibration.k.tolist() == [300.5, 0, 159.5, 0, 301.5, 119.5, 0, 0, 1]
    assert calibration.r.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert calibration.p.tolist() == [290, 0, 158, 0, 0, 291, 118, 0, 0, 0, 1, 0]
    assert (values['calibrated'], values['size'], values['reopened']) == ('True', '320 x 240', '0')
    assert float(values['rate_hz']) > 0


def test_an_absent_a_frozen_and_an_unplugged_camera_are_told_and_come_back():
    domain = fresh_domain()
    with camera() as (mjpeg, feeder), probe(domain) as listening:
        mjpeg.drop()
        raw = listening.listen(Image, TOPIC)
        with node_process(domain, 'camera_driver', source=mjpeg.url):
            state(listening, WARN, f'waiting for the camera: {mjpeg.url} cannot be opened')
            mjpeg.resume()
            assert state(listening, OK, 'running')['reopened'] == '0'
            for fault, reason in (
                (mjpeg.freeze, 'no picture for'),
                (mjpeg.drop, 'opened: nobody'),
            ):
                fault()
                state(listening, ERROR, 'frozen: no new picture for ')
                values = state(listening, ERROR, reason)
                assert float(values['age_s']) > 1
                raw.clear()
                feeder.jump(feeder.number + 1000)
                first = feeder.number
                mjpeg.freeze(False)
                mjpeg.resume()
                values = state(listening, OK, 'running')
                listening.until(lambda: len(raw) > 3, 'new pictures')
                assert min(map(number_of, raw)) >= first
            assert values['reopened'] == '2'


def test_what_queued_up_while_the_process_stood_still_is_not_shown():
    domain = fresh_domain()
    with camera() as (mjpeg, feeder), probe(domain) as listening:
        raw = listening.listen(Image, TOPIC)
        with node_process(domain, 'camera_driver', source=mjpeg.url, timeout=0.5) as process:
            listening.until(lambda: raw, 'a picture')
            process.send_signal(signal.SIGSTOP)
            feeder.jump(10_000)
            threading.Event().wait(1.0)  # pictures pile up in its connection
            feeder.jump(20_000)
            mjpeg.freeze()
            process.send_signal(signal.SIGCONT)
            state(listening, ERROR, 'no picture for')
            feeder.jump(30_000)
            mjpeg.freeze(False)
            listening.until(lambda: number_of(raw[-1]) >= 30_000, 'new pictures')
    assert [n for n in map(number_of, raw) if 10_000 <= n < 30_000] == []


def test_a_video_is_played_again_and_again_and_coded_anew(tmp_path):
    path = tmp_path / 'walk.avi'
    write_video(str(path), 10, rate=25.0)
    domain = fresh_domain()
    with probe(domain) as listening:
        raw = listening.listen(Image, TOPIC)
        jpeg = listening.listen(CompressedImage, f'{TOPIC}/compressed')
        info = listening.listen(CameraInfo, 'camera/camera_info')
        given = {'source': path, 'jpeg_quality': 20, 'frame_id': 'eye'}
        with node_process(domain, 'camera_driver', **given):
            listening.until(lambda: min(len(raw), len(jpeg), len(info)) > 15, 'two rounds')
            values = state(listening, OK, 'running')
    numbers = [number_of(image) for image in raw]
    assert set(numbers) <= set(range(10))
    assert min(np.diff(numbers)) < 0  # it began again
    for message in jpeg:
        assert from_jpeg(bytes(message.data)) in range(10)
        # Annex K.1 of the standard begins with 16; quality 20 is 50 / 20 times as coarse
        assert Picture.open(io.BytesIO(bytes(message.data))).quantization[0][0] == 40
    assert {message.header.frame_id for message in (*raw, *jpeg, *info)} == {'eye'}
    assert (values['reopened'], values['calibrated']) == ('0', 'False')
    # not calibrated: so says REP-104
    assert not any(message.k.any() or message.p.any() for message in info)
    assert {(message.width, message.height) for message in info} == {(WIDTH, HEIGHT)}


def test_the_end_of_a_video_is_told(tmp_path):
    path = tmp_path / 'short.avi'
    write_video(str(path), 3)
    domain = fresh_domain()
    with (
        probe(domain) as listening,
        node_process(domain, 'camera_driver', source=path, loop='false'),
    ):
        values = state(listening, WARN, f'{path} has been played to its end')
        assert values['pictures'] == '3'


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'camera_info': None}, 'is for 640 x 240 px, the pictures have 320 x 240: published as'),
        ({'width': 640, 'height': 480}, '320 x 240 px instead of 640 x 480'),
    ],
)
def test_pictures_of_another_size_are_told(tmp_path, given, words):
    path = tmp_path / 'other.yaml'
    path.write_text(INFO.replace('320', '640'))
    given = {key: path if value is None else value for key, value in given.items()}
    domain = fresh_domain()
    with camera() as (mjpeg, _), probe(domain) as listening:
        info = listening.listen(CameraInfo, 'camera/camera_info')
        with node_process(domain, 'camera_driver', source=mjpeg.url, **given):
            state(listening, WARN, words)
            listening.until(lambda: info, 'a calibration')
    assert (info[-1].width, info[-1].height, info[-1].k[0]) == (WIDTH, HEIGHT, 0.0)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'source': 'gopher://x'}, 'begins with gopher://; choices are http'),
        ({'width': 640}, 'width is 640 and height 0: give both'),
        ({'rate': -1.0}, 'rate of the camera is -1.0'),
        ({'jpeg_quality': 101}, 'parameter jpeg_quality of camera_driver'),
        ({'camera_info': '/none.yaml'}, '/none.yaml'),
        ({'loop': 3}, 'parameter loop of camera_driver is 3, must be a bool'),
    ],
)
def test_a_parameter_that_cannot_be_ends_the_process_with_words(given, words):
    given = {'source': '/dev/none'} | given
    with node_process(fresh_domain(), 'camera_driver', **given) as process:
        assert process.wait(30) == 2
        said = process.stdout.read()
    assert '[FATAL]' in said
    assert words in said


def test_formats_that_nobody_listens_to_are_not_made():
    def never():
        raise AssertionError('nobody listens')

    with probe(fresh_domain()) as listening:
        publisher = PicturePublisher(listening.node)
        publisher.publish(1, CameraInfo(width=WIDTH, height=HEIGHT), never, never)
        jpeg = listening.listen(CompressedImage, f'{TOPIC}/compressed')

        def heard():
            publisher.publish(2, CameraInfo(width=WIDTH, height=HEIGHT), never, lambda: b'made')
            return jpeg

        listening.until(heard, 'a picture')
        assert bytes(jpeg[0].data) == b'made'
        raw = listening.listen(Image, TOPIC)
        for width in (WIDTH, 2 * WIDTH):  # a stream may change its size
            pixels = np.full((HEIGHT, width, 3), width // 4, np.uint8)

            def seen(width=width, pixels=pixels):
                size = CameraInfo(width=width, height=HEIGHT)
                publisher.publish(3, size, lambda: pixels, lambda: b'')
                return raw and raw[-1].width == width

            listening.until(seen, 'a raw picture')
            assert np.array_equal(np.array(raw[-1].data), pixels.ravel())
