"""Who asks a person: the terminal, or a page of this machine."""

import html
import http.server
import os
import queue
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

from rich.console import Console

CHOICES = ('left', 'right', 'equal', 'skip', 'quit')
QUESTION = 'which is better: [l]eft, [r]ight, [e]qual, [s]kip, [q]uit? '
HOST = '127.0.0.1'
HEAD = (
    '<!doctype html><meta charset="utf-8"><title>lebot prefer</title>'
    '<style>body{font-family:sans-serif;text-align:center}'
    'button{font-size:1.3em;margin:.4em;padding:.4em 1em}</style>'
)


class Ask(Protocol):
    """Shows a pair and waits for the answer."""

    def __call__(self, number: int, total: int, clip: Path) -> str:
        """One of :data:`CHOICES` for the pair that a clip shows."""

    def close(self) -> None:
        """It is over."""


def meant(text: str) -> str:
    """Answer that a text stands for, '' for none: a word, or its first letter."""
    text = text.strip().lower()
    return next((word for word in CHOICES if text and word.startswith(text)), '')


class Terminal:
    """Asks in the terminal; the desktop's viewer shows the clip, if there is a desktop."""

    def __init__(self) -> None:
        """Look for a viewer."""
        self._viewer = viewer()

    def __call__(self, number: int, total: int, clip: Path) -> str:
        """See :class:`Ask`; the end of the input is quit."""
        if self._viewer:
            subprocess.Popen(
                [self._viewer, str(clip)],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        sys.stdout.write(f'\n{number} of {total}: {clip}\n')
        while True:
            sys.stdout.write(QUESTION)
            sys.stdout.flush()
            line = sys.stdin.readline()
            word = meant(line) if line else 'quit'
            if word:
                return word

    def close(self) -> None:
        """Nothing to do."""


def viewer() -> str:
    """What opens a file on this desktop; '' without one, as over ssh."""
    if sys.platform == 'darwin':
        return shutil.which('open') or ''
    desktop = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    return (shutil.which('xdg-open') or '') if desktop else ''


class Page:
    """Asks on a page that only this machine can open, by an address that nobody can guess."""

    def __init__(self, port: int, console: Console) -> None:
        """Listen on a port; 0 takes a free one."""
        self._answers: queue.Queue[str] = queue.Queue()
        self.number, self.total, self.file = 0, 0, Path()
        self.secret = secrets.token_urlsafe(12)
        self._server = http.server.ThreadingHTTPServer((HOST, port), _handler(self))
        self.address = f'http://{HOST}:{self._server.server_port}/{self.secret}/'
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        console.print(f'the clips are shown at {self.address}', highlight=False)

    def __call__(self, number: int, total: int, clip: Path) -> str:
        """See :class:`Ask`."""
        self.total, self.file, self.number = total, clip, number
        return self._answers.get()

    def answer(self, number: int, word: str) -> bool:
        """Take an answer from the page; False for one that cannot be."""
        if word not in CHOICES or not number or number != self.number:
            return False
        self.number = 0  # until the next one is drawn
        self._answers.put(word)
        return True

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def text(self) -> str:
        """The page as it is now."""
        if not self.number:
            return f'{HEAD}<meta http-equiv="refresh" content="1"><p>drawing the next pair ...'
        buttons = ''.join(
            f'<button name="answer" value="{word}">{word}</button>' for word in CHOICES
        )
        return (
            f'{HEAD}<p>{self.number} of {self.total}: which is better?</p>'
            f'<img src="clip/{self.number}" alt="{html.escape(self.file.name)}">'
            f'<form method="post"><input type="hidden" name="number" value="{self.number}">'
            f'{buttons}</form>'
        )


def _handler(page: Page) -> type[http.server.BaseHTTPRequestHandler]:
    from urllib.parse import parse_qs  # late: with the page

    class Handler(http.server.BaseHTTPRequestHandler):
        """Gives the page and the clip, takes answers."""

        def do_GET(self) -> None:
            """Give the page, or the clip that is shown."""
            if self.path == f'/{page.secret}/':
                self._send(page.text().encode(), 'text/html; charset=utf-8')
            elif self.path == f'/{page.secret}/clip/{page.number}' and page.file.is_file():
                self._send(page.file.read_bytes(), 'image/gif')
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            """Take an answer, and show the next pair once it is there."""
            size = min(int(self.headers.get('Content-Length', 0)), 1000)
            found = parse_qs(self.rfile.read(size).decode(errors='replace'))
            number, word = (found.get(name, [''])[0] for name in ('number', 'answer'))
            if self.path != f'/{page.secret}/' or not number.isdigit():
                self.send_error(404)
            elif not page.answer(int(number), word):
                self.send_error(409, 'another pair is shown by now')
            elif word == 'quit':
                self._send(f'{HEAD}<p>Thank you.'.encode(), 'text/html; charset=utf-8')
            else:
                self.send_response(303)
                self.send_header('Location', f'/{page.secret}/')
                self.send_header('Content-Length', '0')
                self.end_headers()

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header('Content-Type', kind)
            self.send_header('Content-Length', str(len(content)))
            self.send_header('Cache-Control', 'no-store')
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the terminal is for the answers."""

    return Handler
