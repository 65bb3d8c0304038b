"""The GPUs of one run: which there are, who has them, and their locks against other runs.

A device that a step of this run has is locked for all processes of the machine. The lock is the
kernel's and is held by the step's process as well, so it is free when both are gone, and not before.
Nobody holds one device while it waits for another, so two runs cannot wait for each other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import ProjectError, UserError
from charkha.pipeline import devices
from charkha.pipeline.devices import CUDA, HIP, SHARE, WHOLE, Device
from charkha.pipeline.engines import nvidia_smi

if TYPE_CHECKING:
    from charkha.project import PipelineSettings


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a step's process is started with."""

    devices: tuple[str, ...]
    environment: dict[str, str]  # all of it
    locks: tuple[int, ...]  # files to be inherited


class Gpus:
    """Hands out devices to the steps of one run."""

    def __init__(self, settings: PipelineSettings) -> None:
        self.elsewhere: set[str] = set()  # what other runs had when somebody last asked
        self._folder = settings.gpu_locks
        self._found, self._source = found(settings.gpus)
        self._lock_of = {device.id: device.lock for device in self._found}
        self._held: dict[str, tuple[tuple[str, ...], int]] = {}  # unit -> devices, of each so much
        self._locks: dict[str, int] = {}  # device -> open file

    def check(self, asked: Mapping[str, float]) -> None:
        """Check that each of these steps can ever have what it asks for.

        Raises:
            ProjectError: there are too few devices, whoever has them.
        """
        for step, gpu in asked.items():
            if devices.amount(gpu) <= WHOLE * len(self._found):
                continue
            here = ", ".join(self._lock_of)
            what = f"{self._source}: {here}" if here else f"none: {self._source}"
            raise ProjectError(
                f"asks for gpu={gpu:g}, and this machine has {what}",
                where=f"step {step!r}",
                fix="run it where there are enough (`charkha run --on ENGINE`); name them, "
                'gpus = ["0", "1"] under [pipeline]; or gpus = [] to run without',
            )

    def take(self, waiting: Mapping[str, float]) -> tuple[str, Grant] | None:
        """Give devices to the first of those who wait, in their order, whose turn it is.

        Raises:
            UserError: devices cannot be locked.
        """
        self.elsewhere = set()
        names, amounts = list(waiting), [devices.amount(gpu) for gpu in waiting.values()]
        while True:
            turns = zip(names, devices.turns(amounts, self._free()), strict=True)
            name, given = next(((n, g) for n, g in turns if g is not None), ("", None))
            if given is None:
                return None
            if self._locked(given):
                self._held[name] = given, min(devices.amount(waiting[name]), WHOLE)
                return name, self._grant(given, waiting[name])

    def give_back(self, unit: str) -> None:
        """Free what a unit has; its process has ended."""
        given, _ = self._held.pop(unit, ((), 0))
        used = {name for others, _ in self._held.values() for name in others}
        for name in set(given) - used:
            self._unlock(name)

    def close(self) -> None:
        """Free everything."""
        self._held.clear()
        for name in list(self._locks):
            self._unlock(name)

    def waiting_for(self, gpu: float) -> str:
        """Return in words that a step waits."""
        others = f", other runs {len(self.elsewhere)}" if self.elsewhere else ""
        wanted = f"{gpu:g} GPUs" if gpu > 1 else "a GPU"
        return f"waits for {wanted}: this run uses {len(self._locks)} of {len(self._found)}{others}"

    def _free(self) -> dict[str, int]:
        free = {name: WHOLE for name in self._lock_of if name not in self.elsewhere}
        for given, share in self._held.values():
            for name in given:
                free[name] -= share
        return free

    def _locked(self, given: tuple[str, ...]) -> bool:
        """Lock all of these or none; note which of them another run has."""
        new: dict[str, int] = {}
        for name in given:
            if name not in self._locks:
                lock = _open(self._folder, self._lock_of[name])
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    new[name] = lock
                except BlockingIOError:
                    os.close(lock)
                    self.elsewhere.add(name)
        self._locks |= new
        if self.elsewhere.isdisjoint(given):
            return True
        for name in new:
            self._unlock(name)
        return False

    def _unlock(self, name: str) -> None:
        lock = self._locks.pop(name)
        fcntl.flock(lock, fcntl.LOCK_UN)  # also where a grandchild of the step has it still
        os.close(lock)

    def _grant(self, given: tuple[str, ...], gpu: float) -> Grant:
        seen = ",".join(given)
        own = {CUDA: seen, SHARE: f"{gpu:g}"} | ({HIP: seen} if HIP in os.environ else {})
        locks = tuple(self._locks[name] for name in given)
        return Grant(devices=given, environment={**os.environ, **own}, locks=locks)


def found(named: tuple[str, ...] | None) -> tuple[list[Device], str]:
    """Return the devices that steps may use, and who says so; of none, why.

    What the one who starts the run may see comes first, then what the project names, then all.
    """
    for variable in (CUDA, HIP):
        if (text := os.environ.get(variable)) is not None:
            entries = devices.visible(text)
            source = variable if entries else f'{variable} is "{text}"'
            return _named(entries, known=variable == HIP), source
    if named is not None:
        return _named(list(named), known=False), "[pipeline] gpus"
    cards, reason = nvidia_smi.look()
    return devices.all_of(cards), reason or "nvidia-smi"


def _named(entries: list[str], *, known: bool) -> list[Device]:
    """Return named devices, with the driver's names for them where those may differ."""
    cards = [] if known or all(map(devices.is_whole, entries)) else nvidia_smi.look()[0]
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return devices.named(entries, cards, by_bus=by_bus)


def _open(folder: Path, name: str) -> int:
    """Open a lock's file, which any user of this machine may have made."""
    path = folder / "".join(c if c.isalnum() or c == "-" else "_" for c in name)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        while True:
            with suppress(FileNotFoundError):
                return os.open(path, flags)
            _make(folder)
            with suppress(FileExistsError):
                lock = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                os.fchmod(lock, 0o644)  # whatever the umask: others have to read it
                return lock
    except OSError as e:
        raise UserError(
            f"GPUs cannot be kept apart: {path}: {e.strerror}",
            fix="name a folder that all runs of this machine may write to: gpu_locks = … under "
            "[pipeline]",
        ) from e


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # another user was faster
            folder.chmod(0o1777)  # as /tmp: each may add, none take away
