"""What a mutation is, and the list of all; the modules of mutations fill it."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from tests.fuzz.posts import Post, wrap, wrap_archive
from tests.fuzz.studies import RECODED, Files, of_kind
from tests.fuzz.tree import File

Bases = Mapping[str, Files]
Make = Callable[[Bases, Random], Post]
ChangeFiles = Callable[[Files, Random], None]
ChangeFile = Callable[[File, Random], None]

ANOTHER_ON_TOP = 0.15
"""Share of studies that go wrong in two ways."""


@dataclass(frozen=True)
class Mutation:
    """One way of going wrong: what goes wrong, at which level, and how a request is made of valid studies."""

    name: str
    group: str
    make: Make


MUTATIONS: list[Mutation] = []
_FILE_CHANGES: list[ChangeFiles] = []


def of_files(name: str, group: str) -> Callable[[ChangeFiles], ChangeFiles]:
    """Register a function that changes the files of a study."""

    def register(change: ChangeFiles) -> ChangeFiles:
        def make(bases: Bases, random: Random) -> Post:
            files = _choose(bases, random, plain=group == "tags")
            change(files, random)
            if files and random.random() < ANOTHER_ON_TOP:
                random.choice(_FILE_CHANGES)(files, random)
            return wrap(files, random)

        _FILE_CHANGES.append(change)
        MUTATIONS.append(Mutation(name, group, make))
        return change

    return register


def of_dicom(name: str, *kinds: str) -> Callable[[ChangeFile], ChangeFile]:
    """Register a function that changes one DICOM file, of one of these kinds if there is one."""

    def register(change: ChangeFile) -> ChangeFile:
        def change_one(files: Files, random: Random) -> None:
            by_kind = [of_kind(files, kind) for kind in kinds or ("CT", "RS", "RS", "RP", "RD")]
            target = random.choice(random.choice([names for names in by_kind if names] or [[""]]))
            change_file(files, target, lambda file: change(file, random), implicit=random.random() < 0.05)

        of_files(name, "tags")(change_one)
        return change

    return register


def of_every_slice(name: str) -> Callable[[ChangeFile], ChangeFile]:
    """Register a function that changes every CT image, with the same random numbers."""

    def register(change: ChangeFile) -> ChangeFile:
        def change_all(files: Files, random: Random) -> None:
            seed = random.random()
            for target in of_kind(files, "CT"):
                change_file(files, target, lambda file: change(file, Random(seed)))

        of_files(name, "tags")(change_all)
        return change

    return register


def change_file(files: Files, name: str, change: Callable[[File], None], *, implicit: bool = False) -> None:
    """Change a file of a study, unless it is of another encoding, broken already, or not there."""
    try:
        file = File.parse(files[name])
        if file.data and file.encode() == files[name]:
            change(file)
            files[name] = file.encode(implicit=implicit)
    # A sequence may have become an item of itself
    except (KeyError, struct.error, RecursionError):
        return


def of_archive(name: str) -> Callable[[Callable[[Files, Random], bytes]], Callable[[Files, Random], bytes]]:
    """Register a function that makes an archive."""

    def register(pack: Callable[[Files, Random], bytes]) -> Callable[[Files, Random], bytes]:
        MUTATIONS.append(
            Mutation(name, "archive", lambda b, random: wrap_archive(pack(_choose(b, random), random), random))
        )
        return pack

    return register


def of_request(name: str) -> Callable[[Callable[[Files, Random], Post]], Callable[[Files, Random], Post]]:
    """Register a function that makes a request."""

    def register(make: Callable[[Files, Random], Post]) -> Callable[[Files, Random], Post]:
        MUTATIONS.append(Mutation(name, "request", lambda bases, random: make(_choose(bases, random), random)))
        return make

    return register


def _choose(bases: Bases, random: Random, *, plain: bool = False) -> Files:
    """Copy one of the valid studies; a plain one can be taken apart."""
    return dict(bases[random.choice([name for name in bases if not plain or name not in RECODED])])
