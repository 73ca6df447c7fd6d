"""One HTML page of a bag: verdict, pictures, tables. It needs no network and no other file."""

import base64
from collections.abc import Sequence
from html import escape

from lebot_rl_ros.cli.bag_check import by_severity, facts, lost, milliseconds, size, verdict
from lebot_rl_ros.cli.bag_check_gather import Examination, examine
from lebot_rl_ros.cli.bag_info import describe, run_lines
from lebot_rl_ros.data.bag.findings import status
from lebot_rl_ros.data.bag.reader import Bag

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 52rem; background: #fff; color: #111;
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .3rem; border-bottom: 1px solid #ccc; }
p { margin: .3rem 0; }
nav a { display: inline-block; margin: .2rem .8rem .2rem 0; color: #174a7c; }
.verdict { display: inline-block; padding: .2rem .7rem; border-radius: .4rem; font-weight: 600;
  border: 2px solid; }
.good { border-color: #1d7a45; background: #e7f5ec; }
.bad { border-color: #b3311d; background: #fbeae7; }
.error { border-left: .3rem solid #b3311d; }
.warning { border-left: .3rem solid #d08a17; }
.note { border-left: .3rem solid #8a8a8a; }
.finding { margin: .5rem 0; padding: .1rem .7rem; }
.do { color: #444; }
img { display: block; width: 100%; max-width: 40rem; height: auto; margin: .5rem auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; overflow-wrap: normal; }
th, td { padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left;
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
td.key { white-space: nowrap; color: #444; }
@media (max-width: 40rem) { .kind { display: none; } table { font-size: .8rem; } }
@media print { nav { display: none; } h2, img { break-inside: avoid; } }
"""


def page(bag: Bag, pictures: Sequence[tuple[str, str, bytes]]) -> str:
    """Put the page together.

    Args:
        bag: that it is of; it is read and checked.
        pictures: title, words and PNG of each.
    """
    found, data = examine(bag), describe(bag)
    name = bag.path.resolve().name
    bad = status(found.findings)
    titles = ['Check', *(title for title, _, _ in pictures), 'Topics', 'Run']
    links = ' '.join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in titles)
    parts = [
        '<!DOCTYPE html>',
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(name)}</title><style>{STYLE}</style></head><body>',
        f'<h1>{escape(name)}</h1>',
        f'<p>{escape(data["start_local"])}, {data["duration_s"]:.1f} s, '
        f'{data["messages"]:,} messages, {size(data["octets"])}</p>',
        f'<p class="verdict {"bad" if bad else "good"}">{escape(verdict(found.findings))}</p>',
        f'<nav>{links}</nav>',
        *_check(found),
    ]
    for title, words, png in pictures:
        inline = base64.b64encode(png).decode()
        parts += [
            _heading(title),
            f'<p>{escape(words)}</p>',
            f'<img alt="{escape(title)}" src="data:image/png;base64,{inline}">',
        ]
    parts += [_heading('Topics'), *_topics(found), _heading('Run')]
    rows = [('path', str(bag.path)), ('started', data['start']), *run_lines(data['run'])]
    rows += [(file['name'], size(file['octets'])) for file in data['files']]
    parts.append('<table>')
    parts += [
        f'<tr><td class="key">{escape(key)}</td><td>{escape(value)}</td></tr>'
        for key, value in rows
    ]
    return '\n'.join([*parts, '</table>', '</body></html>', ''])


def _check(found: Examination) -> list[str]:
    parts = [_heading('Check'), *(f'<p>{escape(line)}</p>' for line in facts(found))]
    for finding in by_severity(found.findings):
        do = f'<br><span class="do">{escape(finding.do)}</span>' if finding.do else ''
        words = escape(f'{finding.severity}: {finding}')
        parts.append(f'<p class="finding {finding.severity}">{words}{do}</p>')
    if not found.findings:
        parts.append('<p>Nothing was found to be wrong.</p>')
    return parts


def _topics(found: Examination) -> list[str]:
    head = ('messages', 'Hz', 'longest, ms', 'missing', 'latency p50, ms', 'p99, ms')
    parts = ['<div class="wide"><table>', '<tr><th>topic</th>']
    parts += [f'<th class="n">{name}</th>' for name in head]
    parts.append('</tr>')
    for report in found.topics:
        timing, delay = report.timing, report.latency or report.transport
        judged = timing.regular and not report.events
        cells = [
            f'{timing.count:,}',
            f'{timing.rate:.1f}' if judged else '-',
            milliseconds(timing.longest) if judged else '-',
            lost(report) if judged else '-',
            f'{delay.p50:.2f}' if delay else '-',
            f'{delay.p99:.2f}' if delay else '-',
        ]
        kind = f'<span class="do kind"><br>{escape(report.type)}</span>'
        parts.append(f'<tr><td>{escape(report.name)}{kind}</td>')
        parts += [f'<td class="n">{escape(cell)}</td>' for cell in cells]
        parts.append('</tr>')
    return [*parts, '</table></div>']


def _heading(title: str) -> str:
    return f'<h2 id="{_anchor(title)}">{escape(title)}</h2>'


def _anchor(title: str) -> str:
    return ''.join(c if c.isalnum() else '-' for c in title.lower())
