"""Reading pictures: newest only, from streams that stall and come back, and from files."""

import io
import os
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from camera_samples import (
    HEIGHT,
    WIDTH,
    camera,
    coded,
    decoded,
    from_jpeg,
    server,
    until,
    write_video,
)
from lebot_rl_ros.hardware.camera import CameraSource
from lebot_rl_ros.hardware.capture import Thinning, identify
from lebot_rl_ros.hardware.emulation.camera import encode_jpeg
from lebot_rl_ros.hardware.frame import Frame, jpeg_header


def take(source):
    """The next frame; fails where none comes."""
    frame = source.take(20.0)
    assert frame is not None, source.reason
    return frame


def test_a_stream_is_handed_on_byte_for_byte_with_the_time_of_arrival():
    with camera() as (mjpeg, feeder), CameraSource(mjpeg.url) as source:
        before = time.time_ns()
        numbers = []
        for _ in range(5):
            frame = take(source)
            number = from_jpeg(frame.jpeg())
            assert frame.jpeg() == feeder.sent[number]
            assert decoded(frame.rgb()) == number
            assert (frame.width, frame.height) == (WIDTH, HEIGHT)
            assert before < frame.stamp <= time.time_ns()
            before = frame.stamp
            numbers.append(number)
        assert numbers == sorted(set(numbers))


def test_only_the_newest_frame_is_kept_and_it_is_given_once():
    with camera() as (mjpeg, _), CameraSource(mjpeg.url) as source:
        take(source)
        start = source.number
        until(lambda: source.number > start + 5, 'six pictures that nobody takes')
        mjpeg.freeze()
        # The stream may take it for lost from here on; what has been sent by now has arrived.
        until(lambda: source.reason, 'the stall')
        frame = take(source)
        assert frame.number == source.number
        assert source.take(0.0) is None


def test_a_stall_is_noticed_and_the_stream_comes_back_with_new_pictures_only():
    with camera() as (mjpeg, feeder), CameraSource(mjpeg.url) as source:
        take(source)
        mjpeg.freeze()
        until(lambda: source.reason, 'the stall')
        assert re.fullmatch(r'http://127.* no picture for \d+\.\d s', source.reason)
        while (frame := source.take(0.0)) is not None:
            last = from_jpeg(frame.jpeg())
            assert last < feeder.number
        feeder.jump(1000)
        mjpeg.freeze(False)
        assert from_jpeg(take(source).jpeg()) >= 1000
        assert source.reopened == 1


def test_a_cable_that_is_pulled_and_plugged_again_counts_every_time():
    with camera() as (mjpeg, feeder), CameraSource(mjpeg.url) as source:
        for round_ in (1, 2):
            take(source)
            mjpeg.drop()
            until(lambda: 'ended' in source.reason, 'the end')
            until(lambda: 'cannot be opened: nobody answers' in source.reason, 'a vain try')
            feeder.jump(1000 * round_)
            mjpeg.resume()
            while source.take(0.0):
                pass
            assert from_jpeg(take(source).jpeg()) >= 1000 * round_
            assert source.reopened == round_


def test_a_stream_that_is_not_there_yet_is_waited_for():
    with camera() as (mjpeg, _):
        mjpeg.drop()
        with CameraSource(mjpeg.url) as source:
            until(lambda: source.reason, 'the first try')
            assert 'cannot be opened: nobody answers there' in source.reason
            assert (source.number, source.take(0.0)) == (0, None)
            mjpeg.resume()
            take(source)
            assert source.reopened == 0  # it was never lost


def test_closing_does_not_wait_for_one_who_never_answers():
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        source = CameraSource(f'http://127.0.0.1:{silent.getsockname()[1]}/')
        asked = silent.accept()[0]  # the reader waits for an answer now
        closing = threading.Thread(target=source.close, daemon=True)
        closing.start()
        closing.join(4.0)  # the reader itself would wait for 5 s
        assert not closing.is_alive()
        assert source._thread.is_alive()
        asked.close()
        source._thread.join(20)
        assert not source._thread.is_alive()


def test_a_process_ends_in_order_while_a_stream_hangs():
    code = (
        'import sys\n'
        'from lebot_rl_ros.hardware.camera import CameraSource\n'
        'source = CameraSource(sys.argv[1])\n'
        'sys.stdin.readline()\n'
        'source.close()\n'
        "print('closed', flush=True)"
    )
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        words = [sys.executable, '-c', code, f'http://127.0.0.1:{silent.getsockname()[1]}/']
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            asked = silent.accept()[0]  # the reader waits for an answer now
            process.stdin.write(b'close\n')
            process.stdin.flush()
            assert process.stdout.readline() == b'closed\n'
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)  # it sees its reader off
            asked.close()
            assert process.wait(20) == 0


def test_a_damaged_picture_is_counted_and_not_shown():
    with server() as mjpeg, CameraSource(mjpeg.url) as source:
        good = encode_jpeg(coded(7))

        def send_until_heard():
            mjpeg.publish(good)
            return source.take(0.05)

        until(send_until_heard, 'a picture')
        mjpeg.publish(good[: len(good) // 2])
        until(lambda: source.damaged, 'the damage')
        assert re.search(r': \d+ bytes that are no whole JPEG', source.reason)
        after = encode_jpeg(coded(8))
        mjpeg.publish(after)
        until(lambda: (frame := source.take(0.0)) and frame.jpeg() == after, 'the next one')


def test_a_fast_stream_is_thinned_out():
    with camera() as (mjpeg, _), CameraSource(mjpeg.url, rate=8.0) as source:
        frames = [take(source) for _ in range(8)]
    assert np.diff([frame.number for frame in frames]).max() > 1


def test_thinning_keeps_the_mean_rate():
    thinning = Thinning(0.125)
    kept = [k / 30 for k in range(301) if thinning.lets_through(k / 30)]
    assert (kept[0], len(kept)) == (0.0, 81)  # 10 s of 30 Hz at 8 Hz, both ends
    thinning = Thinning(0.125)
    assert thinning.lets_through(5.0)
    assert not thinning.lets_through(5.0001)  # two queued pictures at once, as at a beginning


@given(st.just(0.0) | st.floats(0.004, 1.0), st.lists(st.floats(0.0, 3.0), min_size=1))
def test_thinned_pictures_are_half_a_period_apart(period, gaps):
    thinning = Thinning(period)
    kept = [now for now in np.cumsum(gaps) if thinning.lets_through(now)]
    assert kept[0] == gaps[0]
    assert all(gap >= 0.49 * period for gap in np.diff(kept))
    if not period:
        assert len(kept) == len(gaps)


@pytest.mark.parametrize(('codec', 'name'), [('MJPG', 'a.avi'), ('mp4v', 'a.mp4')])
def test_a_file_is_played_at_its_rate_and_ends(tmp_path, codec, name):
    path = str(tmp_path / name)
    write_video(path, 12, codec, rate=50.0)
    numbers, stamps = [], []
    with CameraSource(path, loop=False, clock=time.monotonic_ns) as source:
        while not source.ended or source._frame:
            if frame := source.take(0.1):
                numbers.append(decoded(frame.rgb()))
                assert frame.number == numbers[-1] + 1
                stamps.append(frame.stamp)
                assert from_jpeg(frame.jpeg()) == numbers[-1]
    assert numbers == sorted(set(numbers))
    assert (numbers[-1], source.number, source.reopened) == (11, 12, 0)
    # None is shown before its time, whatever this machine has to do besides.
    periods = numbers[-1] - numbers[0]
    assert stamps[-1] - stamps[0] > (periods - 1) * 20_000_000


def test_a_file_begins_again(tmp_path):
    path = str(tmp_path / 'a.avi')
    write_video(path, 5)
    with CameraSource(path, rate=100.0) as source:
        until(lambda: source.number > 12, 'the third round')
        assert not source.ended
        assert (source.reopened, source.reason) == (0, '')


def test_what_cannot_be_opened_is_said(tmp_path):
    path = tmp_path / 'late.avi'
    with CameraSource(str(path)) as source:
        until(lambda: source.reason, 'the first try')
        assert source.reason == f'{path} is not there'
        path.write_text('no video')
        until(lambda: 'no video that OpenCV can read' in source.reason, 'another reason')
        whole = str(tmp_path / 'whole.avi')
        write_video(whole, 3)
        os.replace(whole, path)
        assert decoded(take(source).rgb()) in range(3)
    with CameraSource('/dev/none') as source:
        until(lambda: source.reason == '/dev/none is not there', 'the reason')
    with CameraSource('/dev/null') as source:
        until(lambda: 'or another program uses it' in source.reason, 'the reason')


def test_a_source_is_named_without_its_password():
    source = identify('rtsp://me:secret@robot.local:554/live?key=1')
    assert source.name == 'rtsp://robot.local:554/live'
    assert source.target == 'rtsp://me:secret@robot.local:554/live?key=1'
    assert identify('/dev/v4l/by-id/usb-head').kind == 'device'
    assert identify('walk.avi').kind == 'file'
    if sys.platform == 'linux':
        assert identify('2').target == '/dev/video2'


@pytest.mark.parametrize(
    ('given_', 'complaint'),
    [
        ({'source': ' '}, 'source of the camera is empty; give a device'),
        ({'source': 'gopher://x'}, 'begins with gopher://; choices are http, https, rtsp'),
        ({'width': -1}, 'a camera of -1 x 0 px'),
        ({'rate': float('nan')}, 'rate of the camera is nan'),
        ({'rate': -5.0}, 'rate of the camera is -5.0, must be 0'),
        ({'timeout': 0.0}, 'timeout of the camera is 0.0, must be more than 0 s'),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given_, complaint):
    with pytest.raises(ValueError, match=complaint):
        CameraSource(**{'source': '/dev/none'} | given_)


def test_without_opencv_one_is_told_what_to_install():
    code = (
        "import sys; sys.modules['cv2'] = None\n"
        'from lebot_rl_ros.hardware.camera import CameraSource\n'
        "CameraSource('/dev/none')"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "needs OpenCV: pip install 'lebot_rl_ros[camera]'" in done.stderr


def without_tables(jpeg):
    """The same JPEG as a UVC camera may send it: without Huffman tables."""
    return b''.join(part for marker, part in segments(jpeg) if marker != 0xC4)


def segments(jpeg):
    """(marker, bytes) of each segment; the scan and all after it is one."""
    yield 0xD8, jpeg[:2]
    at = 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], 'big')
        yield jpeg[at + 1], jpeg[at:end]
        at = end
    yield 0xDA, jpeg[at:]


def frame_of(jpeg):
    return Frame(np.frombuffer(jpeg, np.uint8), 0, 1)


def test_a_jpeg_without_tables_is_made_whole_for_others():
    whole = encode_jpeg(coded(99))
    bare = without_tables(whole)
    assert len(bare) < len(whole)
    assert jpeg_header(whole) == (WIDTH, HEIGHT, True)
    assert jpeg_header(bare + b'\0' * 7) == (WIDTH, HEIGHT, False)
    assert frame_of(whole).jpeg() == whole
    sent = frame_of(bare + b'\0' * 7).jpeg()
    assert jpeg_header(sent) == (WIDTH, HEIGHT, True)
    assert from_jpeg(sent) == 99


def test_a_quality_makes_a_new_jpeg():
    best = encode_jpeg(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), 95)
    poor = frame_of(best).jpeg(10)
    assert len(poor) < len(best) / 2
    assert Image.open(io.BytesIO(poor)).size == (64, 48)


def test_a_jpeg_that_cannot_be_decoded_says_so():
    whole = encode_jpeg(coded(1))
    # A whole header and end, and quantisation tables that are not there.
    broken = b''.join(part for marker, part in segments(whole) if marker != 0xDB)
    with pytest.raises(ValueError, match='bytes of JPEG that cannot be decoded'):
        frame_of(broken).rgb()


@given(st.binary(max_size=64))
@example(b'\xff' * 40)
@example(b'\xc0\x00\x00' * 9)
@example(b'\xff\xc0\x00\x00' * 9)
def test_no_bytes_can_break_the_header_reader(inside):
    for data in (inside, b'\xff\xd8' + inside + b'\xff\xd9'):
        try:
            width, height, _ = jpeg_header(data)
        except ValueError:
            continue
        assert 0 < width < 65536
        assert 0 < height < 65536


def test_a_number_survives_its_way_into_a_picture_and_back():
    numbers = [0, 1, 40_000, 65_535]
    assert [decoded(coded(number)) for number in numbers] == numbers
    assert [from_jpeg(encode_jpeg(coded(number))) for number in numbers] == numbers
