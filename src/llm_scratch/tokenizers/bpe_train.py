"""Train a BPE vocabulary: repeatedly merge the most frequent pair of adjacent tokens.

Recounting all pairs for each merge would take hours. Five optimizations make it fast without
changing the result (tests/tokenizers/test_bpe_train.py compares it to a version of twenty lines
that recounts):

1. Each distinct piece of text is stored once, with its frequency.
2. A word is a string with one *character per token* (`merging.py`): `word.replace("ab", "c")` is
   the merge, executed by Python in C.
3. `where` maps each pair to the words that may contain it. A merge touches only these words, and in
   them changes only the counts of the pairs next to the merged one.
4. A heap returns the most frequent pair. Decreased counts are not updated in the heap; a stale
   entry is corrected when it reaches the top. Counts never increase: new pairs contain the new
   token.
5. A very long word is a `Chain` of tokens: a merge touches the positions of its pair, not the
   whole word.

Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1; on bytes: GPT-2
(Radford et al. 2019), section 2.2.
"""

from __future__ import annotations

import gc
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from llm_scratch.tokenizers.merging import BYTES, FIRST_MERGE, Chain, pairs, symbols
from llm_scratch.tokenizers.pretokens import Splitter
from llm_scratch.tokenizers.special import special_pattern

LearnMerges = Callable[[Mapping[str, int], int, Callable[[], object]], list[str]]
MIN_CHAIN = 128  # tokens of a word stored as a `Chain`; for shorter ones `str.replace` is faster
MIN_BAR_COLUMNS = 70  # width of a progress bar with its name, percentage and time


def train_merges(
    texts: Iterable[str],
    n_merges: int,
    splitter: Splitter,
    special_tokens: Sequence[str] = (),
    progress: bool = False,
    processes: int = 1,
    learn: LearnMerges | None = None,
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from texts; no merge crosses a special token in them.

    Args:
        texts, special_tokens, progress, processes: as for `ByteBPE.train`.
        n_merges: number of merges.
        splitter: cuts texts into pieces.
        learn: the algorithm (default: `learn_merges`).
    Returns:
        The bytes of both halves of each merge, in learned order.
    """
    size = sum(map(len, texts)) if isinstance(texts, Sequence) else None
    with _bar("characters", size, progress) as tick:
        counts = splitter.count(_between(special_tokens, texts), processes, tick)
    with _bar("merges", n_merges, progress) as tick, _gc_paused():
        learned = (learn or learn_merges)(counts, n_merges, partial(tick, 1))
    tokens = [bytes([byte]) for byte in BYTES]
    merges: list[tuple[bytes, bytes]] = []
    for pair in learned:
        merges.append((tokens[ord(pair[0])], tokens[ord(pair[1])]))
        tokens.append(b"".join(merges[-1]))
    return merges


def learn_merges(
    counts: Mapping[str, int], n_merges: int, tick: Callable[[], object] = lambda: None
) -> list[str]:
    """Learn up to `n_merges` merges from pieces of text and their frequencies.

    The most frequent pair is merged. Ties go to the smallest left token, then the smallest right
    one (bytes in the order of `BYTES`, then merged tokens in learned order), so the result depends
    on the counts alone.

    Args:
        counts: piece -> frequency.
        n_merges: number of merges; fewer are returned when no word of two tokens is left.
        tick: called after each merge, for a progress bar.
    Returns:
        The merged pairs in order; `chr(256 + i)` is the token of merge number i.
    """
    words = [symbols(piece.encode("utf-8", "replace")) for piece in counts]
    freqs = list(counts.values())
    count, where = _index(words, freqs)
    chains = {i: Chain(word) for i, word in enumerate(words) if len(word) >= MIN_CHAIN}
    for i in chains:
        words[i] = ""
    heap = [(-n, pair) for pair, n in count.items()]
    heapq.heapify(heap)
    merges: list[str] = []
    while len(merges) < n_merges and heap:
        n, pair = heap[0]
        if count[pair] != -n:
            heapq.heapreplace(heap, (-count[pair], pair))
            continue
        if not n:
            break
        heapq.heappop(heap)
        fresh = _merge(pair, chr(FIRST_MERGE + len(merges)), words, freqs, count, where, chains)
        for new_pair, n in fresh.items():
            heapq.heappush(heap, (-n, new_pair))
        merges.append(pair)
        tick()
    return merges


def _index(words: list[str], freqs: list[int]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Frequency of each pair, and the words that contain it."""
    count: dict[str, int] = {}
    where: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        if len(word) >= MIN_CHAIN:  # one entry per pair: the chain stores the positions
            for pair, n in Counter(pairs(word)).items():
                count[pair] = count.get(pair, 0) + n * freqs[i]
                where.setdefault(pair, []).append(i)
            continue
        for pair in pairs(word):
            if pair in count:
                count[pair] += freqs[i]
                where[pair].append(i)
            else:
                count[pair] = freqs[i]
                where[pair] = [i]
    return count, where


def _merge(
    pair: str,
    new: str,
    words: list[str],
    freqs: list[int],
    count: dict[str, int],
    where: dict[str, list[int]],
    chains: Mapping[int, Chain],
) -> dict[str, int]:
    """Replace `pair` by the token `new` in every word, and update `count` and `where`.

    Returns the counts of the new pairs.
    """
    left, right = pair[0], pair[1]
    # new pair -> (word, occurrences)
    in_chains: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    born: defaultdict[str, list[int]] = defaultdict(list)  # new pair -> word of each occurrence
    for i in where.pop(pair):
        parts = words[i].split(pair)
        if len(parts) == 2:  # one occurrence: only the pairs with its two neighbors change
            head, tail = parts
            words[i] = head + new + tail
            if head:
                count[head[-1] + left] -= freqs[i]
                born[head[-1] + new].append(i)
            if tail:
                count[right + tail[0]] -= freqs[i]
                born[new + tail[0]].append(i)
        elif len(parts) > 2:  # several, possibly adjacent: subtract the old word, add the new one
            for gone in pairs(words[i]):
                count[gone] -= freqs[i]
            words[i] = new.join(parts)
            for made in pairs(words[i]):
                if new in made:
                    born[made].append(i)
                else:
                    count[made] += freqs[i]
        elif i in chains:
            for changed, n in chains[i].merge(pair, new).items():
                if new not in changed:
                    count[changed] += n * freqs[i]
                elif n:
                    in_chains[changed].append((i, n))
    del count[pair]
    fresh = {made: sum(map(freqs.__getitem__, word_ids)) for made, word_ids in born.items()}
    for made, occurrences in in_chains.items():
        fresh[made] = fresh.get(made, 0) + sum(n * freqs[i] for i, n in occurrences)
        born[made] += [i for i, _ in occurrences]
    where.update(born)
    count.update(fresh)
    return fresh


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause the garbage collector, which would scan all lists again; nothing here is cyclic."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _between(special_tokens: Sequence[str], texts: Iterable[str]) -> Iterator[str]:
    """Iterate over the text between special tokens."""
    if not special_tokens:
        yield from texts
        return
    pattern = special_pattern(special_tokens)
    for text in texts:
        yield from (
            pattern.split(text)[::2] if any(name in text for name in special_tokens) else (text,)
        )


@contextmanager
def _bar(label: str, total: int | None, draw: bool) -> Iterator[Callable[[int], object]]:
    """A function that advances a progress bar by n, if there is one; it pulses without a total."""
    if not draw:
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if console.width < MIN_BAR_COLUMNS:  # too narrow
        yield lambda n: None
        return
    with Progress(console=console) as bar:
        task = bar.add_task(label, total=total)
        yield partial(bar.advance, task)
