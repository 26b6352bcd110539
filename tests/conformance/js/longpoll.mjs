// The long-poll transport, chosen or fallen back to.

import { LongPoll } from "phoenix";

import { Feed } from "./feed.mjs";
import { said, watch } from "./rooms.mjs";
import { answer, closes, events, joined, quiet } from "./world.mjs";

const USER = "poller";
const poller = (world, options) => world.open({ params: { user: USER }, transport: LongPoll, ...options });
const posts = (world) => world.requests.filter(({ method }) => method === "POST");

export async function longpoll_channels(world) {
  const socket = await poller(world);
  const { channel, joins, errors } = await joined(socket, "room:polled", { a: 1 });
  const outcomes = {};
  for (const event of ["echo", "fail", "ok_only", "custom_status", "push_then_reply"]) {
    outcomes[event] = await answer(channel.push(event, { x: "hé" }), "retry_later");
  }
  const crash = await answer(channel.push("crash", {}, 40));
  if (joins.all.length < 2) await joins.take(1);
  outcomes.again = await answer(channel.push("echo", { again: true }));
  const stopped = await joined(socket, "room:stopped");
  stopped.channel.push("stop", {});
  await stopped.closes.next();
  const leave = await answer(channel.leave());
  await quiet();
  return { outcomes, crash, errors: errors.all, stopped: [stopped.channel.state, stopped.joins.all.length], leave };
}

export async function longpoll_batches(world) {
  const socket = await poller(world);
  const { channel } = await joined(socket, "room:batch");
  const before = posts(world).length;
  const order = new Feed();
  for (let n = 0; n < 150; n++) channel.push("echo", { n }).receive("ok", order.put);
  const numbers = (await order.take(150)).map(({ n }) => n);
  return { numbers, lines: posts(world).slice(before).map(({ body }) => body.split("\n").length) };
}

export async function longpoll_beside_websocket(world) {
  const [slow, fast] = [await poller(world), await world.open()];
  const [polled, pushed] = [await joined(slow, "room:mixed"), await joined(fast, "room:mixed")];
  const feeds = [polled, pushed].map(({ channel }) => events(channel, "news"));
  const news = (n) => ({ event: "news", payload: { n } });
  await answer(polled.channel.push("broadcast_reply", news(1)));
  await answer(pushed.channel.push("broadcast_reply", news(2)));
  await world.get("/broadcast/room:mixed/news?n=3");
  await Promise.all(feeds.map((feed) => feed.take(3)));
  return feeds.map((feed) => feed.all);
}

export async function longpoll_presence(world) {
  const alice = watch(await world.open(), "presence:mixed", "alice");
  await alice.syncs.next();
  const bob = watch(await poller(world), "presence:mixed", "bob");
  await Promise.all([alice.told.find(said("join", "bob")), bob.syncs.next()]);
  const lists = [alice.list(), bob.list()];
  await answer(bob.channel.leave());
  await alice.told.find(said("leave", "bob"));
  lists.push(alice.list());
  return lists;
}

export async function longpoll_binary(world) {
  const [slow, fast] = [await poller(world), await world.open()];
  const [polled, listener] = [await joined(slow, "room:bytes"), await joined(fast, "room:bytes")];
  const bytes = events(listener.channel, "binary_broadcast");
  polled.channel.push("binary_broadcast", Uint8Array.from([0, 1, 255]).buffer);
  const sent = Buffer.from(await bytes.next()).toString("hex");
  while (!world.requests.some(({ status }) => status === 500)) await quiet();
  return { sent, polls: world.requests.filter(({ method }) => method === "GET").map(({ status }) => status) };
}

export async function longpoll_disconnected(world) {
  const socket = await poller(world);
  const codes = closes(socket);
  const { channel, joins, errors } = await joined(socket, "room:polled");
  await world.get(`/disconnect/user:${USER}`);
  const code = await codes.next();
  await joins.next();
  return { code, errors: errors.all, again: await answer(channel.push("echo", { again: true })) };
}

export async function longpoll_refused(world) {
  const tokens = ["bad", "good"];
  const socket = world.socket({ params: () => ({ token: tokens.shift() }), transport: LongPoll });
  const codes = closes(socket);
  const errors = new Feed();
  socket.onError(errors.put);
  const opened = new Promise((resolve) => socket.onOpen(resolve));
  socket.connect();
  await opened;
  const { joins } = await joined(socket, "room:polled");
  return { errors: errors.all, codes: codes.all, joins: joins.all.length };
}

export async function longpoll_fallback(world) {
  const memory = new Map();
  const sessionStorage = { getItem: (key) => memory.get(key) ?? null, setItem: (key, value) => memory.set(key, value) };
  const socket = await world.open({ longPollFallbackMs: world.options.fallbackMs, sessionStorage });
  const { channel } = await joined(socket, "room:fallback");
  const echo = await answer(channel.push("echo", { n: 1 }));
  return { transport: socket.transportName(socket.transport), echo, memory: Object.fromEntries(memory) };
}
