"""Random numbers that are functions of a key and an index, so that any stretch of a simulation can be made on its own.

Belongs here: the hash and the two distributions made of it. Does not belong here: what is simulated with them.
"""

import math
import zlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def stream(seed: int, name: str) -> np.uint64:
    """Key of an independent sequence of random numbers."""
    key = np.array([seed ^ (zlib.crc32(name.encode()) << 32)], dtype=np.uint64)
    return _mix(_mix(key) + np.uint64(zlib.crc32(name[::-1].encode())))[0]


def uniform(stream: np.uint64, index: Integers) -> Floats:
    """Uniform numbers in (0, 1), one per index."""
    bits = _mix(index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + stream)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54


def normal(stream: np.uint64, index: Integers) -> Floats:
    """Standard normal numbers, one per index (Box and Muller)."""
    radius = np.sqrt(-2 * np.log(uniform(stream, 2 * index)))
    return radius * np.cos(2 * math.pi * uniform(stream, 2 * index + 1))


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that scatters all bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
