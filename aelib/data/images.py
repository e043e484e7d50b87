"""Images of a folder, as one array or in batches. Import from `aelib.data`."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from PIL import Image, ImageOps

from aelib import checks

#: What is taken for an image, in small or capital letters.
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


class Images(keras.utils.PyDataset):
    """The images of a folder in batches, each read when it is asked for: see `folder`.

    ``fit``, ``encode``, ``reconstruct`` and the scores of `aelib.anomaly` take it. Keras shuffles the order
    of the batches, not what is in them.

    Attributes
    ----------
    files : list of Path
        Where the images are, in the order of the rows.
    shape : tuple
        (H, W, C) of one image.
    """

    def __init__(
        self, files: list[Path], shape: tuple[int, int, int], batch_size: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.files, self.shape, self.batch_size = files, shape, batch_size

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __getitem__(self, i: int) -> np.ndarray:
        """Return batch `i`, float32 (B, H, W, C)."""
        return _read(self.files[i * self.batch_size : (i + 1) * self.batch_size], self.shape)


def folder(
    path: str | Path,
    *,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    batch_size: int | None = None,
    errors: Literal["refuse", "skip"] = "refuse",
) -> np.ndarray | Images:
    """Return the PNG, JPEG and TIFF images of a folder, sorted by file name.

    Other files, hidden ones and folders within it are left alone. Photographs are turned upright, as their
    EXIF data say; transparency is dropped. Grey images of 16 bits keep them; of colours, Pillow reads the
    upper 8 bits. Each file is decoded once before anything is returned, so that a broken one is found at the
    start.

    Parameters
    ----------
    path : str or Path
    size : int or (int, int), optional
        Height and width, one number for both. The whole image is resized, with its proportions changed where
        they differ, by Pillow's bilinear filter, which averages when it shrinks. Without it all images must
        have one size.
    channels : {1, 3}, optional
        Grey or colour; by default 3 where any image is in colour. Give it where a second folder must look
        like the first. Grey in three channels is repeated, colour in one is weighted: ITU-R 601-2 luma.
    batch_size : int, optional
        Return batches of so many, read when they are asked for, instead of one array.
    errors : {"refuse", "skip"}
        What to do with a file that cannot be read, or would be read in part: raise an error that names it, or
        leave it out with a warning that names it.

    Returns
    -------
    ndarray (n, H, W, C), or Images with `batch_size`
        float32 in [0, 1].

    Raises
    ------
    NotADirectoryError
        If there is no folder of that name.
    ValueError
        If there is no image in it, one cannot be read, or sizes differ where none is given.

    Examples
    --------
    >>> x = folder("photographs", size=(64, 48))  # doctest: +SKIP
    >>> model.fit(folder("photographs", size=(64, 48), batch_size=32))  # doctest: +SKIP
    """
    size = None if size is None else checks.whole_numbers("size", size)
    if size is not None and len(size) not in (1, 2):
        raise ValueError(f"size must be one number, or height and width, got {size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (colour) or None (by the images), got {channels!r}")
    if batch_size is not None:
        batch_size = checks.whole_number("batch_size", batch_size)
    looks = _looks(path, checks.choice("errors", errors, ("refuse", "skip")))
    files = list(looks)
    if size is None:
        size = looks[files[0]][0]
        for file in files:
            if looks[file][0] != size:
                raise ValueError(
                    f"the images differ in size: {files[0].name} is {size[0]} by {size[1]} (height by width),"
                    f" {file.name} is {looks[file][0][0]} by {looks[file][0][1]}; give size=, to which all"
                    " are resized"
                )
    channels = channels or (3 if any(colored for _, colored in looks.values()) else 1)
    shape = (size[0], size[-1], channels)
    return _read(files, shape) if batch_size is None else Images(files, shape, batch_size)


def _looks(path: str | Path, errors: str) -> dict[Path, tuple[tuple[int, int], bool]]:
    """Return {file: (size, whether it is in colour)} of the images that can be read."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise NotADirectoryError(f"path must be a folder that exists, got {str(path)!r}")
    found = [f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    looks = {}
    for file in sorted(found, key=lambda file: file.name):
        try:
            looks[file] = _look(file)
        except Exception as error:  # Pillow raises whatever the damage leads to
            message = f"{file} cannot be read as an image: {error}"
            if errors == "refuse":
                raise ValueError(
                    f"{message}; repair or remove it, or leave it out with errors='skip'"
                ) from error
            warnings.warn(f"{message}; it is left out", stacklevel=3)
    if not looks:
        raise ValueError(
            f"{path} must hold images that can be read ({', '.join(SUFFIXES)}), got {len(found)} files with "
            "such a name, none of which can; folders within it are not searched, give one of them as path"
        )
    return looks


def _look(file: Path) -> tuple[tuple[int, int], bool]:
    """Return the size, (H, W), of an image that can be decoded, and whether it is in colour."""
    with Image.open(file) as image:
        if image.format == "TIFF" and image.n_frames > 1:
            raise ValueError(f"it has {image.n_frames} pages, and only the first would be read")
        if image.mode in ("I", "F"):
            raise ValueError("32 bits or signed ones have no range that could be mapped to [0, 1]")
        image = ImageOps.exif_transpose(image)
        return image.size[::-1], not image.mode.startswith(("1", "L", "I"))


def _read(files: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Return images, float32 (n, H, W, C) in [0, 1]."""
    height, width, channels = shape
    x = np.empty((len(files), *shape), np.float32)
    for row, file in zip(x, files, strict=True):
        with Image.open(file) as image:
            image = ImageOps.exif_transpose(image)
            deep = image.mode.startswith("I")
            if deep:  # Pillow resizes floats, but would cut 16 bits to 8 on the way to a mode of colours
                image = Image.fromarray(np.asarray(image, np.float32))
            else:
                image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            row[:] = np.asarray(image, np.float32).reshape(height, width, -1)  # grey (H, W, 1) is repeated
            row /= 65535 if deep else 255
    return x
