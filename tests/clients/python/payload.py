"""Messages whose content follows from their number, so that a receiver can check each byte."""

import random

LARGE_COUNT = 20
TOTAL_BYTES = 200_000_000

_NOISE = random.Random(7).randbytes(10_000_000)


def content(number: int, size: int) -> bytes:
    """`size` bytes that belong to message `number`."""
    start = number * 7919 % (len(_NOISE) - size) if size < len(_NOISE) else 0
    return _NOISE[start : start + size]


def sizes(count: int, largest_bytes: int) -> list[int]:
    """`count` sizes, 200 MB in all: twenty from 1 MB to `largest_bytes`, one in fifty medium, the rest under 10 KB."""
    chance = random.Random(count)
    step = (largest_bytes - 1_000_000) // (LARGE_COUNT - 1)
    large = [1_000_000 + index * step for index in range(LARGE_COUNT)]
    medium_count = count // 50
    small = [chance.randrange(1, 10_000) for _ in range(count - LARGE_COUNT - medium_count)]
    medium_bytes = max(10_000, (TOTAL_BYTES - sum(large) - sum(small)) // medium_count)
    every = large + small + [medium_bytes] * medium_count
    chance.shuffle(every)
    return every
