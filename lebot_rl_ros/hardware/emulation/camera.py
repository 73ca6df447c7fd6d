"""An emulated network camera: Motion JPEG over HTTP, as IP cameras and phones send it.

The format is multipart/x-mixed-replace (RFC 2046 parts, each with its Content-Length) without an
end, which browsers and FFmpeg show, too.
"""

import contextlib
import io
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt

HOST = '127.0.0.1'  # an emulated device is nobody else's business
BOUNDARY = 'picture'


class MjpegServer:
    """Sends the pictures it is given to everyone who has connected before they came.

    A client that reads slowly misses pictures; it is never sent an old one when a newer is there,
    nor, as a first one, what was published before it came.
    """

    def __init__(self, port: int = 0) -> None:
        """Listen on the loopback; port 0 takes a free one, which :attr:`url` tells.

        Raises:
            OSError: the port is taken.
        """
        self._news = threading.Condition()
        self._jpeg, self._count = b'', 0  # newest picture, and how many there were
        self._clients: set[socket.socket] = set()
        self._frozen = self._unplugged = False
        camera = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                camera._serve(self)

        try:
            self._server = _Server((HOST, port), Handler)
        except OSError as error:
            error.filename = f'{HOST}:{port}'
            raise
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name='mjpeg', daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the stream is."""
        return f'http://{HOST}:{self._server.server_port}/stream'

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def publish(self, jpeg: bytes) -> None:
        """Hand over the newest picture; lost while the stream is frozen or unplugged."""
        with self._news:
            if not (self._frozen or self._unplugged):
                self._jpeg, self._count = jpeg, self._count + 1
                self._news.notify_all()

    def freeze(self, on: bool = True) -> None:
        """Stall the stream: connections stay open, new ones are taken, no picture comes."""
        self._frozen = on

    def drop(self) -> None:
        """Unplug: close all connections, and each new one as soon as it comes."""
        with self._news:
            # The port stays ours, or another process could take it until the camera is back.
            self._unplugged = True
            self._hang_up()

    def resume(self) -> None:
        """Plug in again; a frozen stream stays frozen."""
        with self._news:
            self._unplugged = False

    def close(self) -> None:
        """End all connections and the server."""
        self.drop()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _hang_up(self) -> None:
        """Wake every client's thread, also one that waits for a client that does not read."""
        for client in self._clients:
            with contextlib.suppress(OSError):  # it was faster
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()
        self._news.notify_all()

    def _serve(self, request: '_Handler') -> None:
        """One client's thread: header, then every picture from now on."""
        client = request.connection
        with self._news:
            if self._unplugged:
                return
            self._clients.add(client)
            seen = self._count
        try:
            request.send_response(200)
            request.send_header('Content-Type', f'multipart/x-mixed-replace;boundary={BOUNDARY}')
            request.send_header('Cache-Control', 'no-store')
            request.end_headers()
            while jpeg_and_count := self._next(client, seen):
                jpeg, seen = jpeg_and_count
                head = f'--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}'
                request.wfile.write(head.encode() + b'\r\n\r\n' + jpeg + b'\r\n')
        except OSError:
            pass  # the client went away, or was hung up on
        finally:
            with self._news:
                self._clients.discard(client)

    def _next(self, client: socket.socket, seen: int) -> tuple[bytes, int] | None:
        """Wait for a picture after number ``seen``; None once the client is hung up on."""
        with self._news:
            self._news.wait_for(lambda: self._count > seen or client not in self._clients)
            return (self._jpeg, self._count) if client in self._clients else None


class _Handler(BaseHTTPRequestHandler):
    """Takes one request per connection, without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """A thread per client; none of them outlives or holds up the process."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that breaks off in its request is no news


def encode_jpeg(pixels: npt.NDArray[np.uint8], quality: int = 85) -> bytes:
    """JPEG of a picture (height, width, 3), RGB.

    Raises:
        ModuleNotFoundError: Pillow is missing; it comes with the extra `sim`.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()
