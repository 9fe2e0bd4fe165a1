"""Sources that cannot be meant: HR beside its LR, or training beside validation images. Pure.

Only names and bytes are known here. Names that state both HR and LR are enough. A name that states
LR alone may mean something else (LR: Lightroom, X4: a car): then many files must meet a larger one.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import StoredObject

_WORD = re.compile(r"[^\W_]+")

# Words of a folder. `hint`: a scale or a size; it means LR where no other word says HR or LR.
_FOLDER = re.compile(
    r"""(?<![^\W_])(?:
    (?P<hr>(train|valid|val|test)?hr(x\d|images?)? | gt(mod\d+)?  # DIV2K_train_HR, Set5/GTmod12
        | hi(gh)?[ _-]?res(olution)? | originals?
        | sharp | targets?)            # train_sharp, T91/LRbicx4/target
    | (?P<lr>lr_(unknown|mild|difficult|wild)  # DIV2K_train_LR_mild
        | (train|valid|val|test)lr | lrimages?
        | lq | lr([a-z]*\d|b[id])?    # DIV2K_train_LR_bicubic, Set5/LRbicx4, RCAN's LRBI
        | [a-z]*lrx\d | b[id]x\d       # vimeo_septuplet_matlabLRx4, Vid4/BIx4
        | low[ _-]?res(olution)?
        | bicubic | inputs?)           # train_sharp_bicubic, T91/LRbicx4/inputs
    | (?P<hint>x\d\d? | low | small)   # LR_bicubic/X4, LOW_x4_URban100
    )(?![^\W_])""",
    re.VERBOSE,
)
# Words of a file: img_001_SRF_4_HR, Canon_001_LR4, baby_LRBI_x4; DIV2K's 0801x4, 0801x4m, 0801x4w1.
_FILE = re.compile(
    r"(?<![^\W_])(?:(?P<hr>hr|gt)|(?P<lr>lq|lr([a-z]*\d|b[id])?))(?![^\W_])"
    r"|(?P<hint>x\d\d?([mdw]\d?)?$)"
)
# DIV2K_train_HR and DIV2K_valid_HR, train2017 and val2017.
_SPLIT = re.compile(
    r"(?<![^\W_])(?:(?P<training>train(ing)?)|(?P<validation>val(id(ation)?)?))(?![^\W\d_])"
)


def refuse_mixtures(files: Sequence[StoredObject], uri: str) -> None:
    """Refuses the root of a whole benchmark: its LR would be taken as HR.

    Args:
        files: The images of a source.
        uri: The source, for messages.

    Raises:
        UserError: If HR and LR files, or training and validation files, lie in one source.
    """
    if pair := _hr_and_lr(files):
        raise UserError(
            f"{uri}: holds HR and LR images ({', '.join(pair)}); pass a folder with the HR images "
            f"alone. If {pair[1]} is no LR image, rename it or its folder"
        )
    if pair := _training_and_validation(file.key for file in files):
        raise UserError(
            f"{uri}: holds training and validation images ({', '.join(pair)}); pass the folder of "
            "one kind. To take both, rename one of the two folders"
        )


def _hr_and_lr(files: Iterable[StoredObject]) -> tuple[str, str] | None:
    """The keys of an HR file and of its LR file; None if there are none.

    Files meet if their paths are equal but for the words of `_FOLDER` and `_FILE`. Where no file
    says HR, most of a folder's LR files, and two at least, must meet a file of twice their bytes;
    then an equal file name is enough, as in photos/a.png and LR/a.png.
    """
    hr: dict[tuple[str, ...], StoredObject] = {}
    others: dict[tuple[str, ...], StoredObject] = {}
    lr = []
    for file in files:
        kind, folder, name = _read(file.key)
        if kind == "lr":
            lr.append((file, folder + name, name))
        else:
            others |= {name: file, folder + name: file}
        if kind == "hr":
            hr[folder + name] = file
    likely = defaultdict(list)
    for file, path, name in lr:
        if path in hr:
            return hr[path].key, file.key
        likely[PurePosixPath(file.key).parent].append((others.get(path) or others.get(name), file))
    for found in likely.values():
        pairs = [(one.key, half.key) for one, half in found if one and one.size >= 2 * half.size]
        if len(pairs) >= max(2, len(found) / 2):
            return pairs[0]
    return None


def _read(key: str) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """What a path says of its file: hr, lr or None, and its folder's and its name's other words.

    The last word decides, as in LRbicx4/target. A name of one such word says nothing: hr.png and
    lr.png are also flags.
    """
    path = PurePosixPath(key.lower())
    folder, name = str(path.parent), path.stem
    found = [*_FOLDER.finditer(folder)]
    rest = tuple(_WORD.findall(_FILE.sub(" ", name)))
    if rest:
        found += _FILE.finditer(name)
    kinds = [word.lastgroup for word in found]
    said = [kind for kind in kinds if kind != "hint"] or (["lr"] if kinds else [None])
    return said[-1], tuple(_WORD.findall(_FOLDER.sub(" ", folder))), rest or (name,)


def _training_and_validation(keys: Iterable[str]) -> tuple[str, str] | None:
    """A file of each of two folders whose names are equal but for that word; None without any."""
    example = {PurePosixPath(key.lower()).parent: key for key in keys}
    splits: dict[tuple[PurePosixPath, str], dict[str | None, str]] = defaultdict(dict)
    for innermost, key in example.items():
        for folder in (innermost, *innermost.parents):
            for word in _SPLIT.finditer(folder.name):
                rest = f"{folder.name[: word.start()]}/{folder.name[word.end() :]}"
                splits[folder.parent, rest].setdefault(word.lastgroup, key)
    both = (found for found in splits.values() if len(found) == 2)
    return next(((found["training"], found["validation"]) for found in both), None)
