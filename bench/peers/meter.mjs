// What every JavaScript contender does with its events, and how it says what it saw: as meter.py.
// process.hrtime() reads the monotonic clock, as Python's time.monotonic_ns() does on Linux.

import { createInterface } from "node:readline";

const PATIENCE = 4;
const LOOK_MS = 250;

export const TOPICS = Array.from({ length: 64 }, (_, number) => `room:bench-${number}`);

export const [url, mode, expectedText] = process.argv.slice(2);
const expected = Number(expectedText);
const next = new Map(TOPICS.map((topic) => [topic, 0]));
let count = 0, outOfOrder = 0, firstNs = 0n, lastNs = 0n, finish, cpu;
const done = new Promise((resolve) => { finish = resolve; });

export function note(topic, number) {
  if (number !== next.get(topic)) outOfOrder += 1;
  next.set(topic, number + 1);
  count += 1;
  if ((count & 255) === 0 || count === 1 || count === expected) {
    lastNs = process.hrtime.bigint();
    if (count === 1) firstNs = lastNs;
    if (count >= expected) finish();
  }
}

export async function measure() {
  cpu = process.cpuUsage();
  console.log("ready");
  createInterface({ input: process.stdin }).once("line", watch);
  await done;
  const { user, system } = process.cpuUsage(cpu);
  console.log(JSON.stringify({
    count,
    first_ns: Number(firstNs),
    last_ns: Number(lastNs),
    seconds: Number(lastNs - firstNs) / 1e9,
    cpu_seconds: (user + system) / 1e6,
    reordered: outOfOrder,
    duplicated: 0,
    latency_ms: null,
  }));
  process.exit(0);
}

function watch() {
  let seen = -1, looks = 0;
  setInterval(() => {
    looks = count === seen ? looks + 1 : 0;
    seen = count;
    if (looks >= PATIENCE) finish();
  }, LOOK_MS);
}
