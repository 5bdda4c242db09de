"""HEIF and AVIF, which not every Pillow reads: the reader is registered, or named where it lacks.

A file's brands (ISO/IEC 14496-12, ``ftyp``) tell what it is, whatever its name.
"""

from __future__ import annotations

from PIL import Image

#: Suffixes of files that are pictures also where nothing reads them.
SUFFIXES = (".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif")
_AVIF = {b"avif", b"avis"}
_HEIF = {
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"
}  # fmt: skip


def missing_reader(data: bytes) -> str | None:
    """The reason why this Pillow does not read ``data``, and what to install; else None.

    Args:
        data: a file's bytes, of any format.
    """
    brands = _brands(data)
    if brands & _AVIF:
        Image.init()
        lacks = "AVIF" not in Image.OPEN
        return "is AVIF, which Pillow 11.3 reads: pip install 'pillow>=11.3'" if lacks else None
    if not brands & _HEIF or "HEIF" in Image.OPEN:
        return None
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return "is HEIF, which needs a reader: pip install pillow-heif"
    register_heif_opener()
    return None


def _brands(data: bytes) -> set[bytes]:
    """The major brand and the compatible ones; none where the file is of another kind."""
    if data[4:8] != b"ftyp":
        return set()
    box = data[8 : min(int.from_bytes(data[:4], "big"), 4096)]
    return {box[start : start + 4] for start in range(0, len(box), 4) if start != 4}  # its version
