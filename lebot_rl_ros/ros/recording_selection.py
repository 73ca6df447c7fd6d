"""Which topics a recorder takes: by list, by regular expression, less exclusions."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

# Robots in one domain share these; what is said there names who said it.
SHARED = ('/diagnostics', '/rosout', '/parameter_events', '/tf', '/tf_static', '/clock')


@dataclass(frozen=True)
class Selection:
    """Says of a topic's absolute name whether it is recorded.

    ``topics`` are always recorded. Without list and ``pattern`` all in ``namespace`` is, and what
    robots share; with a pattern every topic of the graph that contains it. ``exclude`` takes away
    from both, and hidden topics (a part of the name begins with ``_``) have to be listed.
    """

    namespace: str = '/'
    topics: frozenset[str] = frozenset()  # absolute
    pattern: str = ''
    exclude: str = ''
    _pattern: 're.Pattern[str]' = field(init=False, repr=False, compare=False)
    _exclude: 're.Pattern[str] | None' = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the expressions.

        Raises:
            ValueError: one of them is none; the message has it and what is wrong.
        """
        object.__setattr__(self, '_pattern', _compiled('pattern', self.pattern))
        exclude = _compiled('exclude', self.exclude) if self.exclude else None
        object.__setattr__(self, '_exclude', exclude)

    def __call__(self, topic: str) -> bool:
        """Whether the topic is recorded."""
        if topic in self.topics:
            return True
        if '/_' in topic or (self._exclude and self._exclude.search(topic)):
            return False
        if self.pattern:
            return bool(self._pattern.search(topic))
        below = self.namespace.rstrip('/') + '/'
        return not self.topics and (topic.startswith(below) or topic in SHARED)


def make_selection(
    resolve: Callable[[str], str],
    namespace: str,
    topics: tuple[str, ...] = (),
    pattern: str = '',
    exclude: str = '',
) -> Selection:
    """A selection whose list was given relative to a node; ``resolve`` makes names absolute.

    Raises:
        ValueError: an expression or a topic's name cannot be.
    """
    return Selection(namespace, frozenset(map(resolve, topics)), pattern, exclude)


def _compiled(name: str, expression: str) -> 're.Pattern[str]':
    try:
        return re.compile(expression)
    except re.error as error:
        raise ValueError(f'{name} is {expression!r}, no regular expression: {error}') from None
