"""The emulated network camera, as any HTTP client sees it."""

import http.client
import re
import socket
import threading
import urllib.request
from urllib.parse import urlsplit

import pytest

from camera_samples import coded, from_jpeg, server, until
from lebot_rl_ros.hardware.emulation.camera import MjpegServer, encode_jpeg


class Client:
    """Reads parts by hand, as the standard says them; nothing of ours."""

    def __init__(self, camera):
        before = camera.clients
        self.response = urllib.request.urlopen(camera.url, timeout=20)
        kind = self.response.headers['Content-Type']
        self.boundary = re.fullmatch('multipart/x-mixed-replace;boundary=(.+)', kind)[1]
        until(lambda: camera.clients > before, 'the server to know the client')

    def part(self):
        """The next part's content; b'' at the end."""
        line = self.response.readline()
        if not line:
            return b''
        assert line == f'--{self.boundary}\r\n'.encode()
        head = http.client.parse_headers(self.response)
        assert head['Content-Type'] == 'image/jpeg'
        content = self.response.read(int(head['Content-Length']))
        assert self.response.readline() == b'\r\n'
        return content


def test_every_client_gets_the_bytes_that_were_published():
    with server() as camera:
        clients = [Client(camera), Client(camera)]
        for number in (1, 2, 60000):
            jpeg = encode_jpeg(coded(number))
            camera.publish(jpeg)
            assert [client.part() for client in clients] == [jpeg, jpeg]
            assert from_jpeg(jpeg) == number


def test_who_comes_later_is_not_sent_what_is_old():
    with server() as camera:
        camera.publish(b'old')
        client = Client(camera)
        camera.publish(b'new')
        assert client.part() == b'new'


def test_a_frozen_stream_keeps_its_connections_and_loses_its_pictures():
    with server() as camera:
        client = Client(camera)
        camera.freeze()
        newcomer = Client(camera)
        camera.publish(b'lost')
        camera.resume()  # that is about the cable
        camera.publish(b'lost')
        camera.freeze(False)
        camera.publish(b'seen')
        assert (client.part(), newcomer.part()) == (b'seen', b'seen')


def test_unplugged_ends_all_connections_and_answers_nobody_until_it_is_back():
    with server() as camera:
        client = Client(camera)
        camera.drop()
        assert client.part() == b''
        with pytest.raises((http.client.HTTPException, OSError)):
            urllib.request.urlopen(camera.url, timeout=20)
        camera.publish(b'lost')
        url = camera.url
        camera.resume()
        assert camera.url == url
        client = Client(camera)
        camera.publish(b'seen')
        assert client.part() == b'seen'


def test_a_client_that_does_not_read_holds_up_nobody_and_skips_to_the_newest():
    with server() as camera:
        lazy, keen = Client(camera), Client(camera)
        big = bytes(4_000_000)  # more than a connection's buffers hold
        for number in range(8):
            camera.publish(b'%d' % number + big)
            assert keen.part()[:1] == b'%d' % number
        camera.publish(b'last')
        assert keen.part() == b'last'
        seen = [lazy.part()[:1]]
        while seen[-1] != b'l':
            seen.append(lazy.part()[:1])
        assert seen == sorted(seen)
        assert len(seen) < 9


def test_closing_does_not_wait_for_a_client_that_does_not_read():
    with server() as camera:
        Client(camera)
        camera.publish(bytes(50_000_000))
        closing = threading.Thread(target=camera.close, daemon=True)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()


def test_it_listens_on_the_loopback_only_and_names_a_port_that_is_taken():
    with server() as camera:
        address = urlsplit(camera.url)
        assert address.hostname == '127.0.0.1'
        with socket.socket() as other, pytest.raises(OSError):
            other.connect(('127.0.0.2', address.port))
        with pytest.raises(OSError, match=f'127.0.0.1:{address.port}'):
            MjpegServer(address.port)
