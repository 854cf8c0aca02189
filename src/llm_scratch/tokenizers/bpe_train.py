"""Learning a byte-pair vocabulary: join the most frequent pair of neighbours, and again, and again.

That sentence is the whole algorithm. Counting all pairs anew for each merge would take hours; here five things make it fast,
and none changes the result (tests/tokenizers/test_bpe_train.py holds it to a version of twenty lines that does count anew):

1. Each different piece of text is kept once, with how often it occurs.
2. A word is a string with one *character per token* (`merging.py`): `word.replace("ab", "c")` is the merge, done by Python in C.
3. `where` knows for each pair the words that may hold it, so a merge touches those words alone, and in them changes
   only the counts of the pairs beside the merged one.
4. A heap gives the most frequent pair. Counts that have fallen since are not looked up in the heap; such a pair is corrected
   when it comes to the top. Counts never grow: new pairs always contain the new token.
5. A very long word is a `Chain` of tokens: a merge touches the positions of its pair, not the whole word.

Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1; on bytes: GPT-2 (Radford et al. 2019), section 2.2.
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

MIN_CHAIN = 128  # tokens: a word from here on is a `Chain`; below, replacing in a string is faster
MIN_BAR_COLUMNS = 70  # that a progress bar takes with its name, share and time


def train_merges(
    texts: Iterable[str], n_merges: int, splitter: Splitter, special_tokens: Sequence[str] = (), progress: bool = False, processes: int = 1
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from texts; special tokens that the texts spell are cut out, so that no merge crosses one.

    Returns:
        The bytes of both halves of each merge, the first learned first.
    """
    size = sum(map(len, texts)) if isinstance(texts, Sequence) else None
    with _bar("characters", size, progress) as tick:
        counts = splitter.count(_between(special_tokens, texts), processes, tick)
    with _bar("merges", n_merges, progress) as tick, _gc_paused():
        learned = learn_merges(counts, n_merges, partial(tick, 1))
    tokens = [bytes([byte]) for byte in BYTES]
    merges: list[tuple[bytes, bytes]] = []
    for pair in learned:
        merges.append((tokens[ord(pair[0])], tokens[ord(pair[1])]))
        tokens.append(b"".join(merges[-1]))
    return merges


def learn_merges(counts: Mapping[str, int], n_merges: int, tick: Callable[[], object] = lambda: None) -> list[str]:
    """Learn up to `n_merges` merges from pieces of text and how often each occurs.

    The pair that occurs most often is merged; among equals the one with the smallest left token, then the smallest right one
    (bytes in the order of `BYTES`, then merged tokens in the order they were learned). So the result depends on the counts alone.

    Args:
        counts: piece -> how often it occurs.
        n_merges: how many to learn; fewer come back when no word of two tokens is left.
        tick: called after each merge, for a progress bar.
    Returns:
        The merged pairs in order; `chr(256 + i)` is the token that merge number i makes.
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
    """For each pair: how often it occurs, and in which words."""
    count: dict[str, int] = {}
    where: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        if len(word) >= MIN_CHAIN:  # listed once for each of its pairs: the chain knows the positions
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
    """Replace `pair` by the token `new` in every word, keep `count` and `where` true, and return the counts of the pairs that this made."""
    left, right = pair[0], pair[1]
    in_chains: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # a pair with the new token -> (word, how often in it)
    born: defaultdict[str, list[int]] = defaultdict(list)  # a pair with the new token -> the words it is in, once for each place
    for i in where.pop(pair):
        parts = words[i].split(pair)
        if len(parts) == 2:  # once in the word: only the pairs with its two neighbours change
            head, tail = parts
            words[i] = head + new + tail
            if head:
                count[head[-1] + left] -= freqs[i]
                born[head[-1] + new].append(i)
            if tail:
                count[right + tail[0]] -= freqs[i]
                born[new + tail[0]].append(i)
        elif len(parts) > 2:  # more than once, maybe side by side: take the old word out of the counts, put the new one in
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
    fresh = {made: sum(map(freqs.__getitem__, places)) for made, places in born.items()}
    for made, found in in_chains.items():
        fresh[made] = fresh.get(made, 0) + sum(n * freqs[i] for i, n in found)
        born[made] += [i for i, _ in found]
    where.update(born)
    count.update(fresh)
    return fresh


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Keep Python's garbage collector from walking over all the lists again and again: nothing here forms a circle. Saves an eighth."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _between(special_tokens: Sequence[str], texts: Iterable[str]) -> Iterator[str]:
    """The text between special tokens."""
    if not special_tokens:
        yield from texts
        return
    pattern = special_pattern(special_tokens)
    for text in texts:
        yield from pattern.split(text)[::2] if any(name in text for name in special_tokens) else (text,)


@contextmanager
def _bar(what: str, total: int | None, draw: bool) -> Iterator[Callable[[int], object]]:
    """A function to call with how much more is done, which moves a progress bar if one is drawn; without a total it only shows life."""
    if not draw:
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if console.width < MIN_BAR_COLUMNS:  # numbers would be cut
        yield lambda n: None
        return
    with Progress(console=console) as bar:
        task = bar.add_task(what, total=total)
        yield partial(bar.advance, task)
