"""Calibration files: what is read, and what a bad one is told."""

import pytest
import yaml

from camera_samples import INFO
from lebot_rl_ros.hardware.camera_info import load_calibration


def test_a_file_of_the_calibration_tools_is_read_whole(tmp_path):
    path = tmp_path / 'head.yaml'
    path.write_text(INFO)
    read = load_calibration(path)
    assert (read.name, read.width, read.height) == ('head', 320, 240)
    assert read.distortion_model == 'plumb_bob'
    assert read.d == (0.1, -0.2, 0.001, 0.002, 0.0)
    assert read.k == (300.5, 0.0, 159.5, 0.0, 301.5, 119.5, 0.0, 0.0, 1.0)
    assert read.r == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert read.p == (290.0, 0.0, 158.0, 0.0, 0.0, 291.0, 118.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(('model', 'count'), [('rational_polynomial', 8), ('equidistant', 4)])
def test_each_distortion_model_has_its_number_of_coefficients(tmp_path, model, count):
    content = yaml.safe_load(INFO) | {
        'distortion_model': model,
        'distortion_coefficients': {'rows': 1, 'cols': count, 'data': [0.5] * count},
    }
    path = tmp_path / 'wide.yaml'
    path.write_text(yaml.safe_dump(content))
    assert load_calibration(path).d == (0.5,) * count


@pytest.mark.parametrize(
    ('old', 'new', 'complaint'),
    [
        ('image_width: 320', '', 'image_width is missing; expected a whole number of px'),
        ('image_width: 320', 'image_width: wide', "image_width is 'wide'; expected a whole"),
        ('image_height: 240', 'image_height: -1', 'image_height is -1; expected more than 0'),
        ('plumb_bob', 'fisheye', "distortion_model is 'fisheye'; choices are plumb_bob, rat"),
        ('plumb_bob', 'equidistant', 'distortion_coefficients is .* expected rows: 1, cols: 4'),
        ('rectification_matrix', 'matrix', 'rectification_matrix is missing; expected rows: 3'),
        ('[300.5, ', '[', 'camera_matrix is .* expected rows: 3, cols: 3, data: 9 finite num'),
        ('300.5', '.nan', 'camera_matrix is .* 9 finite numbers'),
        ('300.5', 'true', 'camera_matrix is .* 9 finite numbers'),
        ('300.5', '0.0', r'camera_matrix has focal lengths \(0.0, 301.5\), must be more than 0'),
        ('  cols: 4', '  cols: 3', 'projection_matrix is .* expected rows: 3, cols: 4'),
        ('290.', '[290.]', 'projection_matrix is .* 12 finite numbers'),
        (INFO, 'just words', 'has no keys'),
        ('data: [1, 0', 'data: [[1, 0', 'is no YAML'),
    ],
)
def test_a_bad_file_is_told_where_and_what_was_expected(tmp_path, old, new, complaint):
    assert old in INFO
    path = tmp_path / 'bad.yaml'
    path.write_text(INFO.replace(old, new))
    with pytest.raises(ValueError, match=f'bad.yaml.*{complaint}'):
        load_calibration(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.yaml'):
        load_calibration(tmp_path / 'none.yaml')
