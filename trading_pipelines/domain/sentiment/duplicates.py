"""Tell texts that repeat one another: exactly, or with a few words changed.

A similarity hash finds candidates, the words themselves decide. Belongs here: comparing. Does not belong here: how far
back a repetition counts (`application.alternative.sentiment`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.sentiment.normalise import canonical

FINGERPRINT_BITS = 64
CANDIDATE_BITS = 20
"""Fingerprints that differ in more bits are not compared word by word. Two unrelated texts differ in 32 on average,
with a standard deviation of 4; a headline with one word changed differs in about 10."""
SAME_SHARE = 0.7
"""Common share of the words and word pairs of two texts from which on one repeats the other."""
LEAST_WORDS = 4
"""A shorter text, such as "good morning", repeats another only letter by letter."""

Fingerprints = npt.NDArray[np.uint64]


def fingerprint(text: str) -> int:
    """Similarity hash of a text: alike texts differ in few bits.

    Each word and each pair of neighbouring words casts a vote for every bit (Charikar 2002, "Similarity estimation
    techniques from rounding algorithms", STOC).

    Returns
    -------
    int
        A signed 64-bit number, as PostgreSQL's bigint holds it.
    """
    features = sorted(_features(canonical(text)))
    if not features:
        return 0
    hashes = np.array(
        [int.from_bytes(hashlib.blake2b(f.encode(), digest_size=8).digest(), "big") for f in features], dtype=np.uint64
    )
    places = np.arange(FINGERPRINT_BITS, dtype=np.uint64)
    votes = ((hashes[:, None] >> places) & np.uint64(1)).astype(np.int64).sum(axis=0) * 2 - len(features)
    bits = int(sum(1 << place for place in range(FINGERPRINT_BITS) if votes[place] > 0))
    return bits - (1 << FINGERPRINT_BITS) if bits >> (FINGERPRINT_BITS - 1) else bits


def similarity(one: str, other: str) -> float:
    """Share of words and word pairs that two texts have in common, 0 to 1 (Jaccard)."""
    left, right = _features(canonical(one)), _features(canonical(other))
    return len(left & right) / len(left | right) if left | right else 0.0


def repeats(one: str, other: str) -> bool:
    """Whether two texts say the same in nearly the same words.

    Numbers have to agree: "Bitcoin falls to 58,000" and "Bitcoin falls to 54,000" are two messages.
    """
    left, right = canonical(one), canonical(other)
    if left == right:
        return True
    if min(len(left.split()), len(right.split())) < LEAST_WORDS or _numbers(left) != _numbers(right):
        return False
    return similarity(one, other) >= SAME_SHARE


def find_repeated(text: str, mark: int, earlier: Sequence[str], marks: Fingerprints) -> Iterator[int]:
    """Places of the `earlier` texts that `text` repeats, in their order.

    Headlines are made from patterns: what they speak of has to be compared by whoever knows it. "Bitcoin slides as
    miners sell" and "Ether slides as miners sell" have most words in common and are two messages.

    Parameters
    ----------
    mark : int
        Fingerprint of `text`.
    marks : numpy.ndarray
        Fingerprints of `earlier`, as `as_array` makes them.
    """
    if not earlier:
        return
    near: list[int] = np.flatnonzero(np.bitwise_count(marks ^ as_array([mark])[0]) <= CANDIDATE_BITS).tolist()
    yield from (place for place in near if repeats(text, earlier[place]))


def as_array(marks: Sequence[int]) -> Fingerprints:
    """Fingerprints as the bits that they are."""
    return np.array(marks, dtype=np.int64).view(np.uint64)


def _features(text: str) -> set[str]:
    return set(_words_and_pairs(text.split()))


def _words_and_pairs(words: Sequence[str]) -> Iterator[str]:
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))


def _numbers(text: str) -> list[str]:
    return [word for word in text.split() if any(c.isdigit() for c in word)]
