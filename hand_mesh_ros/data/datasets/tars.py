"""Tar files of samples, read at random: a pass over the headers tells where each member lies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hand_mesh_ros.data.datasets.base import BadSample, Problem
from hand_mesh_ros.data.pixels import BadImage, decode_compressed
from hand_mesh_ros.types import ImageArray


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an uncompressed tar."""

    path: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes; `BadSample` where the tar ends before."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise BadSample(self.path, f"cannot be read ({error.strerror})") from error
        if len(content) != self.size:
            raise BadSample(self.path, f"{self.name}: the tar is cut short")
        return content


@dataclass(frozen=True, slots=True)
class ImageMember:
    """An image in a tar, decoded when called: RGB uint8 (H, W, 3)."""

    member: Member

    def __call__(self) -> ImageArray:
        try:
            return decode_compressed(self.member.read(), self.member.name)
        except BadImage as error:
            raise BadSample(self.member.path, str(error)) from error

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, from the header alone."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(self.member.read())) as image:
                return image.size
        except UnidentifiedImageError as error:
            raise BadSample(self.member.path, f"{self.member.name} is no image") from error


@dataclass(frozen=True, slots=True)
class Item:
    """Members of one sample, by what follows the first dot of their names."""

    path: Path
    key: str
    members: Mapping[str, Member]

    def find(self, extension: str) -> Member | None:
        return self.members.get(extension)

    def member(self, extension: str) -> Member:
        """The member, or `BadSample`."""
        found = self.find(extension)
        if found is None:
            raise BadSample(self.path, f"{self.key}.{extension} is missing")
        return found


def items_of(path: Path, problems: list[Problem]) -> Iterator[Item]:
    """Samples of a tar in order, grouped as WebDataset does; what is broken joins ``problems``."""
    key, members = "", dict[str, Member]()
    try:
        end = path.stat().st_size
        # Only plain tars have places to seek to: "r:" refuses compressed ones.
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isfile():
                    continue
                if info.offset_data + info.size > end:
                    raise tarfile.ReadError(f"{info.name} ends behind the file")
                folder, slash, file = info.name.rpartition("/")
                stem, _, extension = file.partition(".")
                name = f"{folder}{slash}{stem}"
                if name != key and members:
                    yield Item(path, key, members)
                    members = {}
                key = name
                members[extension.lower()] = Member(path, info.name, info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        problems.append(Problem(path, f"no complete tar ({error}), after {key or 'nothing'}"))
    if members:
        yield Item(path, key, members)
