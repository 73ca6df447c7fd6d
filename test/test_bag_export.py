"""Tables out of bags, read back by pyarrow and numpy: every value, type and unit."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Float32MultiArray, MultiArrayDimension

import bag_walks
from bag_walks import BEGIN, JOINTS, PERIOD, TERMS, TYPES
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.bag import table_sink
from lebot_rl_ros.data.bag.export import export_topics, write_rows
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.robot import share_path

TICKS = 60


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    table = share_path('config', 'robots', 'lebot.yaml').read_text()
    return bag_walks.write(folder / 'walk', bag_walks.Walk(TICKS), metadata={'robot': table})


@pytest.fixture(scope='module')
def parquet(bag):
    """The folder of Parquet files."""
    out = bag.parent / 'tables'
    assert main(['bag', 'export', str(bag), '--out', str(out)]) == 0
    return out


@pytest.fixture(scope='module')
def npz(bag):
    """All topics in one file."""
    out = bag.parent / 'all.npz'
    assert main(['bag', 'export', str(bag), '--out', str(out)]) == 0
    return np.load(out, allow_pickle=False)


def decoded(bag, topic):
    with Bag(bag) as opened:
        return [(m, opened.decode(m)) for m in opened.messages([topic])]


def numbers(table, name):
    """A column as numpy, lists of fixed size as (N, width)."""
    column = table[name].combine_chunks()
    if isinstance(column.type, pa.FixedSizeListType):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


def unit(table, name):
    return (table.schema.field(name).metadata or {}).get(b'unit', b'').decode()


def test_every_topic_is_a_file_with_as_many_rows_as_messages(bag, parquet):
    with Bag(bag) as opened:
        counts = {name: topic.count for name, topic in opened.topics.items()}
    assert set(counts) == set(TYPES)
    for name, count in counts.items():
        table = pq.read_table(parquet / f'{name[1:].replace("/", "_")}.parquet')
        assert table.num_rows == count, name
        about = table.schema.metadata
        assert (about[b'topic'].decode(), about[b'type'].decode()) == (name, TYPES[name])
    assert len(list(parquet.iterdir())) == len(counts)


def test_times_are_utc_nanoseconds_and_seconds_since_the_beginning(bag, parquet):
    table = pq.read_table(parquet / 'joint_states.parquet')
    messages = [message for message, _ in decoded(bag, '/joint_states')]
    for name in ('log_time', 'publish_time'):
        assert table.schema.field(name).type == pa.timestamp('ns', 'UTC')
        wanted = [getattr(message, name) for message in messages]
        assert table[name].cast(pa.int64()).to_pylist() == wanted
    np.testing.assert_allclose(
        numbers(table, 'time_s'), [(m.log_time - BEGIN - 200_000) / 1e9 for m in messages],
        atol=1e-12,
    )  # fmt: skip
    assert numbers(table, 'stamp').tolist() == [n * PERIOD for n in range(TICKS)]
    assert (unit(table, 'stamp'), unit(table, 'time_s')) == ('ns', 's')


def test_joints_are_columns_by_their_names_with_units(bag, parquet):
    table = pq.read_table(parquet / 'joint_states.parquet')
    messages = [message for _, message in decoded(bag, '/joint_states')]
    for field, expected in (('position', 'rad'), ('velocity', 'rad/s'), ('effort', 'N·m')):
        for i, joint in enumerate(JOINTS):
            name = f'{field}_{joint}'
            wanted = [getattr(message, field)[i] for message in messages]
            assert numbers(table, name).tolist() == wanted, name
            assert unit(table, name) == expected
    names = pq.read_table(parquet / 'joint_commands.parquet').column_names
    assert f'position_{JOINTS[0]}' in names
    assert not any(name.startswith(('velocity', 'effort')) for name in names), 'it has none'


def test_nested_messages_are_flat_and_covariances_lists_of_nine(bag, parquet):
    table = pq.read_table(parquet / 'imu_data.parquet')
    messages = [message for _, message in decoded(bag, '/imu/data')]
    assert numbers(table, 'orientation_w').tolist() == [m.orientation.w for m in messages]
    assert set(numbers(table, 'linear_acceleration_z')) == {9.81}
    assert numbers(table, 'orientation_covariance').shape == (TICKS, 9)
    assert unit(table, 'angular_velocity_x') == 'rad/s'
    assert unit(table, 'linear_acceleration_z') == 'm/s²'
    twist = pq.read_table(parquet / 'cmd_vel.parquet')
    assert set(numbers(twist, 'twist_linear_x')) == {0.2}
    assert unit(twist, 'twist_angular_z') == 'rad/s'
    odom = pq.read_table(parquet / 'ground_truth_odom.parquet')
    path = [m.pose.pose.position.x for _, m in decoded(bag, '/ground_truth/odom')]
    assert numbers(odom, 'pose_pose_position_x').tolist() == path
    assert unit(odom, 'pose_pose_position_x') == 'm'
    assert set(odom['child_frame_id'].to_pylist()) == {'base_link'}
    clock = pq.read_table(parquet / 'clock.parquet')
    assert numbers(clock, 'clock').tolist() == [n * PERIOD for n in range(TICKS)]


def test_records_are_typed_columns_of_fixed_lists(bag, parquet):
    with Bag(bag) as opened:
        steps, rewards = (opened.rows(name) for name in ('/policy/steps', '/reward/rewards'))
    table = pq.read_table(parquet / 'policy_steps.parquet')
    assert table.schema.field('action').type == pa.list_(pa.float32(), 8)
    assert table.schema.field('log_prob').type == pa.float32()
    assert table.schema.field('mode').type == pa.uint8()
    for name in ('observation', 'command', 'action', 'applied_action', 'log_prob', 'mode'):
        np.testing.assert_array_equal(numbers(table, name), steps[name], err_msg=name)
    for name, prefix in (('stamp', ''), ('next_stamp', 'next_')):
        wanted = steps[f'{prefix}sec'].astype(np.int64) * 10**9 + steps[f'{prefix}nanosec']
        np.testing.assert_array_equal(numbers(table, name), wanted)
    assert not {'sec', 'nanosec', 'next_sec'} & set(table.column_names)
    assert set(table['base_sha256'].to_pylist()) == {'00' * 32}
    about = table.schema.field('action').metadata
    assert about[b'elements'].decode() == ', '.join(JOINTS)
    assert about[b'unit'] == b'action units'
    table = pq.read_table(parquet / 'reward_rewards.parquet')
    for name in ('reward', 'terminated', *TERMS):
        np.testing.assert_array_equal(numbers(table, name), rewards[name], err_msg=name)


def test_steps_and_rewards_are_joined_by_their_stamps(parquet):
    """What the columns are for; DuckDB and pandas do the same."""
    steps, rewards = (
        pq.read_table(parquet / f'{name}.parquet').select(['stamp', column])
        for name, column in (('policy_steps', 'mode'), ('reward_rewards', 'reward'))
    )
    both = steps.join(rewards, 'stamp').sort_by('stamp')
    assert both.num_rows == TICKS - 1
    assert both['mode'].to_pylist() == [1] * 24 + [2] * (TICKS - 25)
    assert set(both['reward'].to_pylist()) == {np.float32(0.02)}


def test_messages_in_messages_are_lists_of_structs(bag, parquet):
    table = pq.read_table(parquet / 'diagnostics.parquet')
    (_, first), *_ = decoded(bag, '/diagnostics')
    row = table['status'].to_pylist()[0]
    assert [status['name'] for status in row] == [status.name for status in first.status]
    assert row[0]['values'] == [{'key': v.key, 'value': v.value} for v in first.status[0].values]
    (text,) = pq.read_table(parquet / 'policy_active_adapter.parquet')['data'].to_pylist()
    assert '"label": "ice@3"' in text


def test_npz_has_the_same_numbers_with_joints_side_by_side(bag, npz):
    joints = [message for _, message in decoded(bag, '/joint_states')]
    np.testing.assert_array_equal(
        npz['joint_states/position'], [message.position for message in joints]
    )
    assert npz['joint_states/position.names'].tolist() == JOINTS
    assert npz['joint_states/log_time'].dtype == np.int64
    assert npz['joint_states/log_time'][0] == BEGIN + 300_000
    with Bag(bag) as opened:
        rows = opened.rows('/policy/steps')
    for name in ('observation', 'action', 'log_prob', 'mode'):
        np.testing.assert_array_equal(npz[f'policy/steps/{name}'], rows[name], err_msg=name)
        assert npz[f'policy/steps/{name}'].dtype == rows[name].dtype
    assert npz['imu/data/orientation_covariance'].shape == (TICKS, 9)
    assert npz['imu/data/frame_id'].tolist() == [''] * TICKS
    (_, first), *_ = decoded(bag, '/diagnostics')
    assert first.status[0].values[0].value in str(npz['diagnostics/status'][0])


def special(folder):
    """Cells of any length: pictures, and arrays with names of their axes."""
    pictures = [CompressedImage(format='jpeg', data=bytes(range(n))) for n in (3, 0, 5)]
    arrays = []
    for n in (2, 0, 3):
        arrays.append(Float32MultiArray(data=[float(i) for i in range(n)]))
        arrays[-1].layout.dim = [MultiArrayDimension(label='x', size=n)]
    with BagWriter(folder) as writer:
        for name, kind, messages in (
            ('/camera', 'sensor_msgs/msg/CompressedImage', pictures),
            ('/array', 'std_msgs/msg/Float32MultiArray', arrays),
        ):
            writer.add(Topic(name, kind))
            for n, message in enumerate(messages):
                writer.write(Message(name, n, n, serialize_message(message)))
    return folder


def test_cells_of_any_length(tmp_path):
    folder = special(tmp_path / 'bag')
    with Bag(folder) as bag:
        tables = export_topics(bag, tmp_path / 'out', ['/array', '/camera'])
        export_topics(bag, tmp_path / 'all.npz', ['/array', '/camera'])
    assert [(t.topic, t.rows) for t in tables] == [('/array', 3), ('/camera', 3)]
    camera = pq.read_table(tmp_path / 'out' / 'camera.parquet')
    assert camera['data'].to_pylist() == [bytes(range(n)) for n in (3, 0, 5)]
    array = pq.read_table(tmp_path / 'out' / 'array.parquet')
    assert array['data'].to_pylist() == [[0.0, 1.0], [], [0.0, 1.0, 2.0]]
    assert array['layout_dim'].to_pylist()[2] == [{'label': 'x', 'size': 3, 'stride': 0}]
    npz = np.load(tmp_path / 'all.npz', allow_pickle=False)
    assert npz['camera/data.offsets'].tolist() == [0, 3, 3, 8]
    assert npz['camera/data'].tolist() == [*range(3), *range(5)]
    assert npz['array/data'].dtype == np.float32
    assert npz['array/layout_dim'][1] == '[{"label": "x", "size": 0, "stride": 0}]'


def test_large_tables_are_written_in_pieces_and_are_whole(bag, tmp_path, monkeypatch):
    monkeypatch.setattr(table_sink, 'BATCH', 7)
    with Bag(bag) as opened:
        export_topics(opened, tmp_path / 'x', ['/joint_states', '/policy/steps'])
        export_topics(opened, tmp_path / 'x.npz', ['/joint_states', '/policy/steps'])
    file = pq.ParquetFile(tmp_path / 'x' / 'joint_states.parquet')
    assert file.num_row_groups == -(-TICKS // 7)
    whole = pq.read_table(tmp_path / 'x' / 'joint_states.parquet')
    assert numbers(whole, 'stamp').tolist() == [n * PERIOD for n in range(TICKS)]
    npz = np.load(tmp_path / 'x.npz')
    assert npz['joint_states/stamp'].tolist() == [n * PERIOD for n in range(TICKS)]
    assert npz['joint_states/position.names'].tolist() == JOINTS
    assert len(npz['policy/steps/stamp']) == TICKS - 1


def test_transitions_are_those_of_the_learner(bag, tmp_path, capsys):
    (recorded,) = read_transitions([bag], cache=False)
    rows = recorded.rows
    for name in ('t.parquet', 't.npz'):
        assert (
            main(['bag', 'export', str(bag), '--transitions', '--out', str(tmp_path / name)]) == 0
        )
    assert f'{len(rows)} transitions' in capsys.readouterr().out
    table, npz = pq.read_table(tmp_path / 't.parquet'), np.load(tmp_path / 't.npz')
    assert set(npz.files) == set(rows.dtype.names)
    for name in rows.dtype.names:
        np.testing.assert_array_equal(npz[name], rows[name], err_msg=name)
        if not name.endswith('sha256'):
            np.testing.assert_array_equal(numbers(table, name), rows[name], err_msg=name)
    assert table.schema.metadata[b'bag_sha256'].decode() == recorded.sha256
    wanted = [row.tobytes().hex() for row in rows['base_sha256']]
    assert table['base_sha256'].to_pylist() == wanted


def test_joints_that_change_are_refused_and_leave_nothing(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.add(Topic('/joint_states', 'sensor_msgs/msg/JointState'))
        for n, names in enumerate((['a', 'b'], ['b', 'a'], ['a', 'c'])):
            message = JointState(name=names, position=[1.0, 2.0])
            writer.write(Message('/joint_states', n, n, serialize_message(message)))
    said = '/joint_states: joints change from a, b to a, c'
    with Bag(tmp_path / 'bag') as bag, pytest.raises(BagError, match=said):
        export_topics(bag, tmp_path / 'x.parquet', ['/joint_states'])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bag']
    main(['bag', 'cut', str(tmp_path / 'bag'), str(tmp_path / 'part'), '--to', '0.000000002'])
    with Bag(tmp_path / 'part') as bag:
        export_topics(bag, tmp_path / 'x.parquet', ['/joint_states'])
    table = pq.read_table(tmp_path / 'x.parquet')
    assert table['position_a'].to_pylist() == [1.0, 2.0], 'found by name, whatever the order'


@pytest.mark.parametrize('words, message', [
    (['--out', 'x.parquet'], 'takes one topic, these are 11'),
    (['--out', 'walk'], 'is there already; --force replaces it'),
    (['--out', 'x.parquet', '--topics', 'nothing'], "no topic 'nothing'; topics are /clock"),
    (['--out', 'x.csv', '--transitions'], 'x.csv: rows are written to .parquet or .npz'),
    (['--out', 'x.npz', '--transitions', '--topics', 'clock'], 'it has no --topics'),
    (['--out', 'folder.npz'], 'folder.npz is a folder'),
])  # fmt: skip
def test_what_cannot_be_is_refused(bag, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.npz').mkdir()
    (tmp_path / 'walk').mkdir()
    (tmp_path / 'walk' / 'imu_data.parquet').write_text('mine')
    assert main(['bag', 'export', str(bag), *words]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / 'walk' / 'imu_data.parquet').read_text() == 'mine'
    assert len(list(tmp_path.iterdir())) == 2


def test_force_replaces_and_without_pyarrow_it_says_what_to_install(bag, tmp_path, capsys,
                                                                    monkeypatch):  # fmt: skip
    out = tmp_path / 'x.parquet'
    out.write_text('old')
    words = ['bag', 'export', str(bag), '--topics', 'imu/data', '--out', str(out)]
    assert main(words) == 2
    assert main([*words, '--force']) == 0
    assert pq.read_table(out).num_rows == TICKS
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    capsys.readouterr()
    assert main([*words, '--force']) != 0
    assert "pip install 'lebot_rl_ros[export]'" in capsys.readouterr().err
    assert pq.read_table(out).num_rows == TICKS


def test_rows_without_a_file_ending_are_refused(tmp_path):
    with pytest.raises(BagError, match='rows are written to'):
        write_rows(tmp_path / 'x', np.zeros(1, [('a', 'f4')]))
