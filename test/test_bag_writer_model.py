"""Any order of adding, writing, splitting and syncing, against a model in a few lines."""

import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

from bag_samples import LATCHED, RELIABLE, START, read_bag, read_file, text
from lebot_rl_ros.data.bag.recover import recover
from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

TOPICS = {
    '/plain': Topic('/plain', 'std_msgs/msg/String', qos=(RELIABLE,)),
    '/last': Topic('/last', 'std_msgs/msg/String', qos=(LATCHED,)),
    '/three': Topic('/three', 'std_msgs/msg/String', qos=({**LATCHED, 'depth': 3},)),
}
DEPTHS = {'/plain': 0, '/last': 1, '/three': 3}
SPLIT = 10 * 10**9  # ns

writes = st.tuples(st.sampled_from(sorted(TOPICS)), st.integers(0, 3), st.integers(0, 999))
orders = st.lists(st.one_of(writes, st.sampled_from(['split', 'sync'])), max_size=30)


@settings(max_examples=30)
@given(orders=orders, close=st.booleans())
def test_files_are_what_the_model_says(tmp_path_factory, orders, close):
    folder = tmp_path_factory.getbasetemp() / 'model' / 'run'
    shutil.rmtree(folder, ignore_errors=True)
    writer = BagWriter(folder, chunk_bytes=300, split_seconds=SPLIT / 1e9)
    for topic in TOPICS.values():
        writer.add(topic)
    files, kept, now = [[]], {name: [] for name in TOPICS}, START

    def split(at):
        again = [
            (name, at, publish_time, data)
            for name, depth in DEPTHS.items()
            for _, _, publish_time, data in (kept[name][-depth:] if depth else [])
        ]
        files.append(again)

    for order in orders:
        if order == 'sync':
            writer.sync()
        elif order == 'split':
            writer.split()
            if files[-1]:
                split(now)
        else:
            name, seconds, number = order
            now += seconds * 10**9
            message = Message(name, now, START + number, text(f'{number}'))
            writer.write(message)
            if files[-1] and now - min(one[1] for one in files[-1]) >= SPLIT:
                split(now)
            one = (name, now, START + number, message.data)
            files[-1].append(one)
            kept[name].append(one)
    if close:
        writer.close()
    else:  # as a kill leaves it, but for what was not written
        writer.sync()
        writer._file.close()
        (folder / '.reserve').unlink()
        recover(folder)
    paths = [folder / f'run_{number}.mcap' for number in range(len(files))]
    assert [read_file(path) for path in paths] == files
    assert read_bag(folder) == [message for file in files for message in file]
