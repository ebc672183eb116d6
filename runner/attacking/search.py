"""The search of an attack: every chunk of examples at every budget, from the smallest to the largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.attacking.chunk import Chunk
from runner.attacking.convergence import SEARCHES, converged


def moves(chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, float, bool]]:
    """Search what is left, and yield each chunk that was moved on, its budget, and whether that is a new one for the chunk.

    A caller may save the chunk and stop in between.

    All chunks reach a budget before the next one begins: with `attack.converge` it is searched again, twice as long as so far,
    while another doubling promises more for all examples together. So the rows do not depend on the size of the chunks.
    """
    for place, epsilon in enumerate(chunks[0].setup.epsilons):
        for chunk in chunks:
            if len(chunk.steps) == place:
                chunk.step(epsilon)
                yield chunk, epsilon, True
        while again := _to_go_on(chunks, place):
            for chunk in again:
                chunk.go_on(epsilon)
                yield chunk, epsilon, False


def _to_go_on(chunks: Sequence[Chunk], place: int) -> list[Chunk]:
    """The chunks that search this budget once more: all that an interrupted round left, or all, or none."""
    if any(len(chunk.steps) > place + 1 for chunk in chunks):
        return []
    if any(SEARCHES not in chunk.steps[place] for chunk in chunks):  # no search, or saved before searches were counted
        return []
    counts = [int(chunk.steps[place][SEARCHES][0]) for chunk in chunks]
    if min(counts) < max(counts):
        return [chunk for chunk, count in zip(chunks, counts, strict=True) if count == min(counts)]
    until = chunks[0].setup.until
    if until.gain is None or 2 * max(counts) > until.cap:
        return []
    found = converged([chunk.steps for chunk in chunks], place, chunks[0].setup.measure)
    if found is None:
        return []
    # the course of one search says little of another one: at least one doubling is tried
    return list(chunks) if found.searches == 1 or found.next_gain > until.gain else []
