// Samplers, as in llm_scratch/generation/sampling.py and penalties.py: the same functions in the same order.
// Tests: tests/serving/test_sampler_js.py (equal to Python's within 1e-6 on golden cases).

const OUT = -Infinity;

/** Probabilities of logits; -Infinity has probability 0. */
export function softmax(logits) {
  let best = OUT;
  for (const logit of logits) if (logit > best) best = logit;
  const shares = Float64Array.from(logits, (logit) => Math.exp(logit - best));
  let total = 0;
  for (const share of shares) total += share;
  return shares.map((share) => share / total);
}

/** Indices of logits, the largest first; equal ones in their order. */
export function bestFirst(logits) {
  return Uint32Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
}

const where = (logits, keep) => Float64Array.from(logits, (logit, i) => (keep(logit, i) ? logit : OUT));
const seen = (ids) => ids.reduce((count, id) => count.set(id, (count.get(id) ?? 0) + 1), new Map());

function scaled(logits, ids, change) {
  const counts = seen(ids);
  return Float64Array.from(logits, (logit, i) => (counts.has(i) ? change(logit, counts.get(i)) : logit));
}

export const PENALTIES = {
  repetition_penalty: (logits, penalty, ids) => scaled(logits, ids, (logit) => (logit < 0 ? logit * penalty : logit / penalty)),
  presence_penalty: (logits, penalty, ids) => scaled(logits, ids, (logit) => logit - penalty),
  frequency_penalty: (logits, penalty, ids) => scaled(logits, ids, (logit, count) => logit - penalty * count),
  no_repeat_ngram_size: (logits, n, ids) => {
    if (ids.length < n) return logits;
    const prefix = ids.slice(ids.length - n + 1).join();
    const last = new Set();
    for (let i = 0; i + n <= ids.length; i++) if (ids.slice(i, i + n - 1).join() === prefix) last.add(ids[i + n - 1]);
    return where(logits, (_, i) => !last.has(i));
  },
};

export const SAMPLERS = {
  temperature: (logits, t) => logits.map((logit) => logit / t),
  top_k: (logits, k) => {
    const worst = logits[bestFirst(logits)[Math.min(k, logits.length) - 1]];
    return where(logits, (logit) => logit >= worst);
  },
  top_p: (logits, p) => {
    if (p === 1) return logits;
    const shares = softmax(logits);
    const keep = new Uint8Array(logits.length);
    let before = 0;
    for (const i of bestFirst(logits)) {
      if (before >= p) break;
      keep[i] = 1;
      before += shares[i];
    }
    return where(logits, (_, i) => keep[i]);
  },
  min_p: (logits, p) => {
    const shares = softmax(logits);
    const bound = p * shares.reduce((best, share) => Math.max(best, share), 0);
    return where(logits, (_, i) => shares[i] >= bound);
  },
  typical_p: (logits, p) => {
    if (p === 1) return logits;
    const shares = softmax(logits);
    const entropy = shares.reduce((sum, share) => sum - (share ? share * Math.log(share) : 0), 0);
    const distance = shares.map((share) => Math.abs(-Math.log(share) - entropy));
    const order = Uint32Array.from(distance.keys()).sort((a, b) => (distance[a] === distance[b] ? a - b : distance[a] < distance[b] ? -1 : 1));
    let held = 0;
    let last = 0;
    for (; last < order.length - 1; last++) {
      held += shares[order[last]];
      if (held >= p) break;
    }
    const bound = distance[order[last]];
    return where(logits, (_, i) => distance[i] <= bound);
  },
  eta_cutoff: (logits, epsilon) => {
    const shares = softmax(logits);
    const entropy = shares.reduce((sum, share) => sum - (share ? share * Math.log(share) : 0), 0);
    const bound = Math.min(epsilon, Math.sqrt(epsilon) * Math.exp(-entropy));
    const best = logits.reduce((most, logit) => Math.max(most, logit), OUT);
    return where(logits, (logit, i) => shares[i] >= bound || logit === best);
  },
};

/** Apply every penalty and sampler that is set; also which of them excluded each token: { logits, cutBy: Map id -> name }. */
export function processLogits(logits, settings, ids = []) {
  const cutBy = new Map();
  let current = Float64Array.from(logits);
  const apply = (name, change) => {
    const next = change(current);
    for (let i = 0; i < next.length; i++) if (next[i] === OUT && current[i] !== OUT) cutBy.set(i, name);
    current = next;
  };
  for (const [name, penalize] of Object.entries(PENALTIES)) {
    const value = settings[name];
    if (value !== null && value !== undefined) apply(name, (before) => penalize(before, value, ids));
  }
  if (settings.temperature === 0) {
    const best = bestFirst(current)[0];
    apply("temperature", (before) => Float64Array.from(before, (_, i) => (i === best ? 0 : OUT)));
    return { logits: current, cutBy };
  }
  for (const [name, sampler] of Object.entries(SAMPLERS)) {
    const value = settings[name];
    if (value !== null && value !== undefined) apply(name, (before) => sampler(before, value));
  }
  return { logits: current, cutBy };
}

/** Draw an index by its probability, the same for the same seed (mulberry32). */
export function draw(shares, seed) {
  let mixed = (seed + 0x6d2b79f5) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  let left = ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  for (let i = 0; i < shares.length; i++) {
    left -= shares[i];
    if (left < 0) return i;
  }
  return bestFirst(shares)[0];
}
