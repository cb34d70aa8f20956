"""Ways to damage the files of a data set: pictures, label maps, annotations, lists."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

#: What becomes of a damaged picture: it cannot be decoded, is decoded to the same size, or to another one.
UNREADABLE, READABLE, OTHER_SIZE = 'unreadable', 'readable', 'other size'


def _encoded(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b'IDAT', zlib.compress(b'\0' * 100))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + pixels + chunk(b'IEND', b'')


def _flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(10):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded(image, 'JPEG', exif=exif)


def _sixteen(image: Image.Image) -> bytes:
    pixels = np.asarray(image)[..., ::-1].astype(np.uint16) << 8
    return cv2.imencode('.png', pixels)[1].tobytes()


#: Name -> (what becomes of it, content for a picture (RGB) and its old content).
PICTURES: dict[str, tuple[str | None, Callable[[Image.Image, bytes, random.Random], bytes]]] = {
    'empty': (UNREADABLE, lambda image, old, rng: b''),
    'ten bytes': (UNREADABLE, lambda image, old, rng: old[:10]),
    'text': (UNREADABLE, lambda image, old, rng: b'this is no picture\n' * 20),
    'random bytes': (UNREADABLE, lambda image, old, rng: rng.randbytes(3000)),
    'a web page': (UNREADABLE, lambda image, old, rng: b'<html><body>404 Not Found</body></html>'),
    'PNG of 60000 x 60000': (UNREADABLE, lambda image, old, rng: png_header(60000, 60000)),
    'PNG of 0 x 0': (UNREADABLE, lambda image, old, rng: png_header(0, 0)),
    # OpenCV 4 fills what is missing with grey, others refuse.
    'half of it': (None, lambda image, old, rng: old[: len(old) // 2]),
    'flipped bits': (None, lambda image, old, rng: _flipped(old, rng)),
    'JPEG without its last bytes': (None, lambda image, old, rng: _encoded(image, 'JPEG')[:-20]),
    'animated GIF': (None, lambda image, old, rng: _encoded(
        image.convert('P'), 'GIF', save_all=True, append_images=[image.rotate(90).convert('P')] * 3)),
    '32-bit TIFF': (None, lambda image, old, rng: _encoded(image.convert('F'), 'TIFF')),
    'CMYK JPEG': (READABLE, lambda image, old, rng: _encoded(image.convert('CMYK'), 'JPEG')),
    'grey JPEG': (READABLE, lambda image, old, rng: _encoded(image.convert('L'), 'JPEG')),
    'grey PNG with transparency': (READABLE, lambda image, old, rng: _encoded(image.convert('LA'), 'PNG')),
    'black and white PNG': (READABLE, lambda image, old, rng: _encoded(image.convert('1'), 'PNG')),
    'PNG with a palette': (READABLE, lambda image, old, rng: _encoded(image.convert('P'), 'PNG')),
    'RGBA PNG': (READABLE, lambda image, old, rng: _encoded(image.convert('RGBA'), 'PNG')),
    '16-bit PNG': (READABLE, lambda image, old, rng: _sixteen(image)),
    'BMP': (READABLE, lambda image, old, rng: _encoded(image, 'BMP')),
    'WebP': (READABLE, lambda image, old, rng: _encoded(image, 'WEBP')),
    'TIFF': (READABLE, lambda image, old, rng: _encoded(image, 'TIFF')),
    'progressive JPEG': (READABLE, lambda image, old, rng: _encoded(image, 'JPEG', progressive=True)),
    'JPEG turned by its EXIF': (READABLE, lambda image, old, rng: _turned(image)),
    '1 x 1 pixel': (OTHER_SIZE, lambda image, old, rng: _encoded(image.resize((1, 1)), 'PNG')),
    '20000 x 8 pixels': (OTHER_SIZE, lambda image, old, rng: _encoded(image.resize((20000, 8)), 'PNG')),
    '8 x 20000 pixels': (OTHER_SIZE, lambda image, old, rng: _encoded(image.resize((8, 20000)), 'JPEG')),
    'twice as wide': (OTHER_SIZE, lambda image, old, rng: _encoded(
        image.resize((2 * image.width, image.height)), 'PNG')),
}  # fmt: skip

#: Name -> (whether it can be read, what replaces a file).
FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    'missing': (UNREADABLE, lambda path: None),
    'a folder': (UNREADABLE, lambda path: path.mkdir()),
    'a link that leads nowhere': (UNREADABLE, lambda path: path.symlink_to('nothing')),
    'a link to itself': (UNREADABLE, lambda path: path.symlink_to(path.name)),
}


def damage_picture(path: Path, rng: random.Random, names: tuple[str, ...] | None = None) -> tuple[str, str | None]:
    """Damage a picture in place; what was done, and what becomes of it."""
    name = rng.choice(names or (*PICTURES, *FILES))
    old = path.read_bytes()
    if name in FILES:
        fate, replace = FILES[name]
        path.unlink()
        replace(path)
        return name, fate
    fate, make = PICTURES[name]
    with Image.open(io.BytesIO(old)) as image:
        path.write_bytes(make(image.convert('RGB'), old, rng))
    return name, fate


def damage_label_map(path: Path, rng: random.Random) -> tuple[str, str | None]:
    """Damage a label map in place; what was done, and whether it can be read."""
    labels = np.array(Image.open(path))
    maps: dict[str, tuple[str | None, Callable[[], bytes]]] = {
        'labels above the classes': (UNREADABLE, lambda: _png(np.where(labels > 0, 200, labels))),
        'one label above the classes': (UNREADABLE, lambda: _png(_with_one(labels, 199))),
        'RGB': (UNREADABLE, lambda: _png(np.stack([labels] * 3, -1))),
        'RGBA': (UNREADABLE, lambda: _png(np.stack([labels] * 4, -1))),
        '16-bit with labels of classes': (READABLE, lambda: _deep(labels)),
        '16-bit with labels above 255': (UNREADABLE, lambda: _deep(labels.astype(np.uint16) + 300)),
        'palette': (READABLE, lambda: _palette(labels)),
        'all ignored': (READABLE, lambda: _png(np.full_like(labels, 255))),
        'half as large': (OTHER_SIZE, lambda: _png(labels[::2, ::2])),
        'cut on one side': (OTHER_SIZE, lambda: _png(labels[:, :-17])),
        '1 x 1 pixel': (OTHER_SIZE, lambda: _png(labels[:1, :1])),
        'JPEG of labels': (None, lambda: _encoded(Image.fromarray(labels), 'JPEG')),
    }  # fmt: skip
    name = rng.choice([*maps, 'empty', 'ten bytes', 'text', 'half of it', 'PNG of 60000 x 60000', *FILES])
    if name in maps:
        fate, make = maps[name]
        path.write_bytes(make())
        return name, fate
    return damage_picture(path, rng, (name,))


def _png(labels: np.ndarray) -> bytes:
    return _encoded(Image.fromarray(np.ascontiguousarray(labels.astype(np.uint8))), 'PNG')


def _deep(labels: np.ndarray) -> bytes:
    return cv2.imencode('.png', labels.astype(np.uint16))[1].tobytes()


def _palette(labels: np.ndarray) -> bytes:
    image = Image.fromarray(labels, mode='P')
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    return _encoded(image, 'PNG')


def _with_one(labels: np.ndarray, label: int) -> np.ndarray:
    changed = labels.copy()
    height, width = labels.shape
    changed[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = label
    return changed


def _set(key: str, value: object, of: str = 'annotations') -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for entry in content[of][:2]:
            entry[key] = value

    return change


def _drop(key: str, of: str = 'annotations') -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for entry in content[of]:
            entry.pop(key)

    return change


def _number_alike(of: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        content[of][1]['id'] = content[of][0]['id']

    return change


def _runs(counts: object, size: object = (128, 128)) -> Callable[[dict], None]:
    return _set('segmentation', dict(counts=counts, size=list(size) if isinstance(size, tuple) else size))


LISTS = ('images', 'annotations', 'categories')
KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation')
#: Damage to what an annotation file of COCO holds.
CONTENTS: dict[str, Callable[[dict], object]] = {
    **{f'no list {name}': lambda content, name=name: content.pop(name) for name in LISTS},
    **{f'{name} a number': lambda content, name=name: content.update({name: 5}) for name in LISTS},
    **{f'{name} empty': lambda content, name=name: content.update({name: []}) for name in LISTS},
    **{f'{name} of numbers': lambda content, name=name: content.update({name: [1, 2]}) for name in LISTS},
    **{f'annotations without {key}': _drop(key) for key in KEYS},
    **{f'pictures without {key}': _drop(key, 'images') for key in ('id', 'file_name', 'height', 'width')},
    **{f'categories without {key}': _drop(key, 'categories') for key in ('id', 'name')},
    **{f'bbox {value}': _set('bbox', value) for value in (
        [10, 10, -5, 20], [10, 10, 0, 0], [float('nan')] * 4, [0, 0, float('inf'), 5], ['a', 0, 5, 5], [1, 2, 3], None,
        [-50, -50, 5, 5], [1e300, 0, 1e300, 5], [10, 10, 1e9, 1e9], 'box', [[1, 2, 3, 4]], [-1e30, 0, 2e30, 50])},
    **{f'segmentation {str(value)[:40]}': _set('segmentation', value) for value in (
        [], [[]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4]], 'text', None, [['a'] * 6], [[float('nan')] * 6], 5, {},
        [[1e9] * 6], [[10, 10, 20, 10, 20, float('inf')]], [1, 2, 3, 4, 5, 6], [[0.5] * 100001])},
    'run lengths too long': _runs([0, 10**6]),
    'run lengths too short': _runs([5, 5]),
    'run lengths negative': _runs([-5, 128 * 128 + 5]),
    'run lengths of text': _runs('ab!~'),
    'run lengths as damaged text': _runs('PPP0000o' * 50),
    'run lengths of None': _runs(None),
    'run lengths without size': _set('segmentation', dict(counts=[128 * 128])),
    'run lengths of another size': _runs([64 * 64], (64, 64)),
    'run lengths of a huge size': _runs([10**12], (10**6, 10**6)),
    'run lengths with a size of text': _runs([128 * 128], 'large'),
    'annotation ids given twice': _number_alike('annotations'),
    'picture ids given twice': _number_alike('images'),
    'category ids given twice': _number_alike('categories'),
    'annotation of a missing picture': _set('image_id', 10**6),
    'annotation of a missing category': _set('category_id', 10**6),
    'ids of text': _set('image_id', 'one'),
    'ids that are lists': _set('id', [1]),
    'area nan': _set('area', float('nan')),
    'area negative': _set('area', -5),
    'area of text': _set('area', 'large'),
    'iscrowd of text': _set('iscrowd', 'yes'),
    'crowds everywhere': _set('iscrowd', 1),
    **{f'picture {key} {value}': _set(key, value, 'images') for key in ('height', 'width')
       for value in (0, -5, 'x', 10**12, None, 5)},
    'picture name with ..': _set('file_name', '../../../etc/passwd', 'images'),
    'picture name absolute': _set('file_name', '/etc/passwd', 'images'),
    'picture name a number': _set('file_name', 5, 'images'),
    'picture name empty': _set('file_name', '', 'images'),
    'picture name with a zero byte': _set('file_name', 'a\0b.jpg', 'images'),
    'category name a number': _set('name', 5, 'categories'),
    'categories in another order': lambda content: content['categories'].reverse(),
    'categories by other names': _set('name', 'thing', 'categories'),
    'one category more': lambda content: content['categories'].append(dict(id=99, name='more')),
}  # fmt: skip

#: Damage to the file that holds them.
TEXTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    'empty': lambda old, rng: b'',
    'breaks off': lambda old, rng: old[: rng.randrange(10, len(old) - 10)],
    'breaks off at the end': lambda old, rng: old[:-3],
    'no JSON': lambda old, rng: b'annotations, as agreed\n',
    'a list': lambda old, rng: b'[' + old + b']',
    'a number': lambda old, rng: b'5',
    'UTF-16': lambda old, rng: old.decode().encode('utf-16'),
    'with a byte order mark': lambda old, rng: b'\xef\xbb\xbf' + old,
    'not UTF-8': lambda old, rng: old.replace(b'"tower"', b'"t\xf6wer"'),
    'zero bytes': lambda old, rng: b'\0' * 1000,
    'nested deeply': lambda old, rng: old.rstrip()[:-1] + b', "x": ' + b'[' * 200000 + b']' * 200000 + b'}',
    'a number of 10000 digits': lambda old, rng: old.replace(b'"height": 128', b'"height": 1' + b'0' * 10000, 1),
    'flipped bits': lambda old, rng: _flipped(old, rng),
    'twice': lambda old, rng: old + old,
}


def damage_annotations(path: Path, rng: random.Random) -> str:
    """Damage an annotation file of COCO in place; what was done."""
    name = rng.choice([*CONTENTS, *CONTENTS, *TEXTS, *FILES])
    if name in FILES:
        path.unlink()
        FILES[name][1](path)
    elif name in TEXTS:
        path.write_bytes(TEXTS[name](path.read_bytes(), rng))
    else:
        content = json.loads(path.read_text())
        CONTENTS[name](content)
        path.write_text(json.dumps(content))
    return name


def damage_list(path: Path, rng: random.Random) -> str:
    """Damage a list of pictures and classes in place; what was done."""
    lines = path.read_text().splitlines()
    lists: dict[str, bytes] = {
        'empty': b'',
        'without classes': '\n'.join(line.split()[0] for line in lines).encode(),
        'with a class that is not there': '\n'.join(f'{line.split()[0]} 5000' for line in lines).encode(),
        'with a negative class': '\n'.join(f'{line.split()[0]} -1' for line in lines).encode(),
        'with classes of text': '\n'.join(f'{line.split()[0]} cat' for line in lines).encode(),
        'with a picture that is not there': ('\n'.join(lines) + '\nn00/none.JPEG 3\n').encode(),
        'with blank lines': ('\n\n'.join(lines) + '\n\n').encode(),
        'with a blank in a name': '\n'.join(f'n 1/{line}' for line in lines).encode(),
        'not UTF-8': '\n'.join(lines).encode() + b'\nn\xff.JPEG 1\n',
        'UTF-16': '\n'.join(lines).encode('utf-16'),
        'zero bytes': b'\0' * 300,
        'with a huge class': '\n'.join(f'{line.split()[0]} {10**30}' for line in lines).encode(),
        'with commas': '\n'.join(line.replace(' ', ',') for line in lines).encode(),
        'with ends of lines of Windows': ('\r\n'.join(lines) + '\r\n').encode(),
        'with paths that lead out': '\n'.join(f'../../{line}' for line in lines).encode(),
    }
    name = rng.choice([*lists, *FILES])
    if name in FILES:
        path.unlink()
        FILES[name][1](path)
    else:
        path.write_bytes(lists[name])
    return name


def damage_folder(root: Path, folders: tuple[str, ...], rng: random.Random) -> tuple[str, Path]:
    """Damage the folders of a data set; what was done, and to which."""
    path = root / rng.choice(folders)
    what = rng.choice(
        ['missing', 'empty', 'a file', 'a link that leads nowhere', 'a link to itself', 'one deeper', 'in capitals']
    )
    aside = root / 'aside'
    os.rename(path, aside)
    if what == 'empty':
        path.mkdir()
    elif what == 'a file':
        path.write_text('no folder')
    elif what == 'a link that leads nowhere':
        path.symlink_to('nothing')
    elif what == 'a link to itself':
        path.symlink_to(path.name)
    elif what == 'one deeper':
        path.mkdir()
        os.rename(aside, path / path.name)
    elif what == 'in capitals':
        os.rename(aside, path.with_name(path.name.upper()))
    return what, path
