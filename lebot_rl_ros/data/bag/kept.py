"""One bag's transitions: from its cache, or made and kept there."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.cache import RowCache
from lebot_rl_ros.data.bag.files import find_files
from lebot_rl_ros.data.bag.joined import Question, join_bag

Found = tuple[npt.NDArray[np.void], Mapping[str, Any]]  # rows, and what `join_bag` says of them


def load(path: Path, question: Question) -> Found | None:
    """What is kept of a bag; None if it has to be read.

    Raises:
        BagError: there is no such bag.
    """
    wanted = question.base_sha256
    for place, whole in _places(path, question):
        found = place.load()
        if found is not None and (not whole or not wanted or found[1]['bases'] == [wanted]):
            return found
    return None


def make(path: Path, question: Question, keep: bool) -> Found:
    """Read a bag; keep what came of it, if that is wanted and can be.

    Raises:
        BagError: the bag cannot be used.
    """
    places = _places(path, question) if keep else []  # known before it is read: it may change
    rows, about = join_bag(path, question)
    rows.flags.writeable = False
    kept = None
    if keep:
        # What was left out of a bag of many bases is no answer to another question.
        place = next(place for place, whole in places if whole == about['one_base'])
        kept = place.save(rows, about)
    return (rows if kept is None else kept), about


def make_apart(path: Path, question: Question, keep: bool) -> Found | None:
    """The same for another process, which takes the rows from the cache if they are there."""
    found = make(path, question, keep)
    return None if isinstance(found[0].base, np.memmap) else found


def _places(path: Path, question: Question) -> list[tuple[RowCache, bool]]:
    """Where rows may be kept, and whether they are those of all steps there."""
    files = find_files(path).paths
    places = [(RowCache(files, replace(question, base_sha256='').settings), True)]
    if question.base_sha256:
        places.append((RowCache(files, question.settings), False))
    return places
