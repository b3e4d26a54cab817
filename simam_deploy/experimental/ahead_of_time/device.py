"""Properties of the GPU that an engine is built on."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from simam_deploy.errors import InputError, RuntimeUnavailable

Version = tuple[int, int]

_MULTIPROCESSORS, _MAJOR, _MINOR, _L2 = 16, 75, 76, 38  # CUdevice_attribute
_PTX_OF_12 = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 5, 7: 6, 8: 7, 9: 8}  # CUDA 12.x takes PTX 8.y
_CAPABILITIES = 20, 999  # 2.0 is the oldest that compilers named; 9 and 9.0 are no way to say 90


@dataclass(frozen=True)
class Device:
    """A GPU and its driver.

    capability : 10 * major + minor.  l2 : bytes.  newest_ptx : the newest version that the driver loads.
    Raises InputError for an invalid number.
    """

    multiprocessors: int
    capability: int
    l2: int
    newest_ptx: Version

    def __post_init__(self) -> None:
        _expect("multiprocessors", self.multiprocessors, 1, 2**31 - 1, "how many there are, as 132")
        _expect("capability", self.capability, *_CAPABILITIES, "10 * major + minor, as 90 for 9.0")
        _expect("l2", self.l2, 0, 2**63 - 1, "bytes, as 50 << 20")
        expect_version("newest_ptx of a device", self.newest_ptx)

    @classmethod
    def here(cls) -> Device:
        """The current device, or the first. Raises RuntimeUnavailable: no driver, or no GPU."""
        advice = "build on the machine with the GPU, or pass its `Device`"
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise RuntimeUnavailable(f"no NVIDIA driver here ({error}); {advice}") from error
        value = ctypes.c_int()

        def ask(name: str, *arguments: object) -> int:
            status = getattr(driver, name)(ctypes.byref(value), *arguments)
            if status != 0:
                raise RuntimeUnavailable(f"{name} of the NVIDIA driver fails with {status}; {advice}")
            return value.value

        if (status := driver.cuInit(0)) != 0:
            raise RuntimeUnavailable(f"cuInit of the NVIDIA driver fails with {status}; {advice}")
        cuda = ask("cuDriverGetVersion")
        number = value.value if driver.cuCtxGetDevice(ctypes.byref(value)) == 0 else ask("cuDeviceGet", 0)
        multiprocessors, major, minor, l2 = (
            ask("cuDeviceGetAttribute", attribute, number) for attribute in (_MULTIPROCESSORS, _MAJOR, _MINOR, _L2)
        )
        return cls(multiprocessors, 10 * major + minor, l2, newest_ptx_of(cuda // 1000, cuda % 1000 // 10))


def expect_version(name: str, value: object) -> None:
    """Raise InputError unless `value` is two non-negative integers."""
    if not (isinstance(value, tuple) and len(value) == 2 and all(type(each) is int and each >= 0 for each in value)):
        raise InputError(f"{name} is {value!r}; it must be two integers, as (9, 0) for 9.0")


def _expect(name: str, value: object, least: int, most: int, what: str) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name} of a device is {value!r}; it is an integer: {what}")


def newest_ptx_of(major: int, minor: int) -> Version:
    """Newest PTX version for a driver of CUDA `major.minor`: 9.x for 13.x, 8.5 for 12.6, 7.x for 11.x."""
    if major == 12:
        return 8, _PTX_OF_12.get(minor, max(_PTX_OF_12.values()))
    return major - 4, minor
