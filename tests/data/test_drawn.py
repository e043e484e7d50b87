import numpy as np
import pytest

from aelib import data


def test_every_combination_is_drawn_once():
    images, factors = data.sprites(24, scales=2, angles=3, positions=4)
    assert images.shape == (3 * 2 * 3 * 16, 24, 24, 1)
    assert (images.dtype, factors.dtype) == (np.float32, np.int64)
    assert (images.min(), images.max()) == (0, 1)
    assert len({row.tobytes() for row in factors}) == len(factors)
    assert len({image.tobytes() for image in images}) == len(images)
    for k, count in enumerate((3, 2, 3, 4, 4)):
        assert set(factors[:, k]) == set(range(count))


def test_factors_are_what_they_say():
    images, factors = data.sprites(32, scales=3, angles=4, positions=8)
    mass = images.sum(axis=(1, 2, 3))
    columns = (images.sum(axis=(1, 3)) @ np.arange(32)) / mass
    rows = (images.sum(axis=(2, 3)) @ np.arange(32)) / mass
    assert np.corrcoef(columns, factors[:, 3])[0, 1] > 0.999
    assert np.corrcoef(rows, factors[:, 4])[0, 1] > 0.999
    for shape in range(3):
        ours = factors[:, 0] == shape
        by_scale = [mass[ours & (factors[:, 1] == s)] for s in range(3)]
        # Soft edges keep the area, wherever the shape stands and however it is turned.
        assert all(sizes.std() < 0.02 * sizes.mean() for sizes in by_scale)
        assert by_scale[0].mean() < by_scale[1].mean() < by_scale[2].mean()
    border = np.concatenate([images[:, [0, -1]].ravel(), images[:, :, [0, -1]].ravel()])
    assert not border.any(), "no sprite is cut off"


@pytest.mark.parametrize("options", [{"size": 8}, {"scales": 0}, {"angles": 1.5}, {"positions": -1}])
def test_wrong_numbers_are_shown(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be a whole number .*got {value}"):
        data.sprites(**options)
