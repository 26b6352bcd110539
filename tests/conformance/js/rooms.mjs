// Two clients in one room: broadcasts, binary frames, presence.

import { Presence } from "phoenix";

import { Feed } from "./feed.mjs";
import { answer, events, follow, joined } from "./world.mjs";

async function two(world, topic) {
  const both = [];
  for (const user of ["alice", "bob"]) both.push(await joined(await world.open({ params: { user } }), topic));
  return both.map(({ channel }) => channel);
}

export async function broadcasts(world) {
  const [alice, bob] = await two(world, "room:both");
  const [toAlice, toBob] = [alice, bob].map((channel) => events(channel, "news"));
  const news = (n) => ({ event: "news", payload: { n } });
  alice.push("broadcast", news(1));
  await toAlice.take(1);
  const reply = await answer(bob.push("broadcast_reply", news(2)));
  await toAlice.take(1);
  await answer(alice.push("broadcast_from", news(3)));
  await world.get("/broadcast/room:both/news?n=4");
  await world.control("publish", { topic: "room:both", event: "news", payload: { n: 5 } });
  await Promise.all([toAlice.take(2), toBob.take(5)]);
  return { reply, alice: toAlice.all.map(({ n }) => n), bob: toBob.all.map(({ n }) => n) };
}

export async function after_join(world) {
  const socket = await world.open();
  const order = new Feed();
  const channel = socket.channel("room:after_join");
  for (const name of ["user_entered", "joined"]) channel.on(name, (payload, ref, joinRef) => order.put([name, payload, ref]));
  channel.join().receive("ok", () => order.put(["ok"]));
  return await order.take(3);
}

const hex = (data) => Buffer.from(data).toString("hex");

export async function binary(world) {
  const [alice, bob] = await two(world, "room:bytes");
  const [toAlice, toBob] = [alice, bob].map((channel) => events(channel, "binary_push", "binary_broadcast"));
  const bytes = Uint8Array.from([0, 1, 2, 255, 254, 195, 169]).buffer;
  const [echo, echoed] = await answer(alice.push("binary_echo", bytes));
  const [fail, failed] = await answer(alice.push("binary_fail", bytes));
  const [, empty] = await answer(alice.push("binary_echo", new ArrayBuffer(0)));
  const [, long] = await answer(alice.push("binary_echo", new Uint8Array(70_000).fill(7).buffer));
  const [, fromText] = await answer(alice.push("binary_echo", { b64: "AAEC" }));
  alice.push("binary_push", bytes);
  alice.push("binary_broadcast", bytes);
  await Promise.all([toAlice.take(2), toBob.take(1)]);
  return {
    echo: [echo, hex(echoed)],
    fail: [fail, hex(failed)],
    empty: empty.byteLength,
    long: [long.byteLength, new Set(new Uint8Array(long)).size],
    fromText: hex(fromText),
    kind: echoed.constructor.name,
    alice: toAlice.all.map(hex),
    bob: toBob.all.map(hex),
  };
}

// Join with a Presence, and give a feed of what it tells.
export function watch(socket, topic, user) {
  const channel = socket.channel(topic, { user });
  const presence = new Presence(channel);
  const told = new Feed();
  const metas = (entry) => (entry ? entry.metas.map(({ phx_ref, phx_ref_prev, ...meta }) => meta) : null);
  presence.onJoin((key, current, fresh) => told.put(["join", key, metas(current), metas(fresh)]));
  presence.onLeave((key, current, gone) => told.put(["leave", key, metas(current), metas(gone)]));
  const list = () => Object.fromEntries(presence.list((key, entry) => [key, metas(entry)]));
  const syncs = new Feed();
  presence.onSync(() => syncs.put(list()));
  return { ...follow(channel), told, list, syncs };
}

// Tell what a Presence said of one key from the rest.
export const said = (kind, name) => ([told, key]) => told === kind && key === name;

export async function presence_of_two(world) {
  const topic = "presence:both";
  const alice = watch(await world.open(), topic, "alice");
  await alice.syncs.next();
  const bob = watch(await world.open(), topic, "bob");
  await Promise.all([alice.told.find(said("join", "bob")), bob.syncs.next()]);
  const lists = { both: [alice.list(), bob.list()] };
  const updated = await answer(bob.channel.push("update", { status: "away" }));
  const update = await alice.told.take(2);
  lists.updated = alice.list();
  const again = await world.open();
  watch(again, topic, "alice");
  const second = await alice.told.next();
  lists.second = alice.list();
  await answer(bob.channel.leave());
  const left = await alice.told.next();
  again.disconnect();
  const gone = await alice.told.next();
  lists.alone = alice.list();
  const untracked = await answer(alice.channel.push("untrack", {}));
  const last = await alice.told.next();
  lists.nobody = alice.list();
  return { updated, untracked, lists, update, second, left, gone, last };
}

export async function presence_after_a_reconnect(world) {
  const topic = "presence:back";
  const alice = watch(await world.open({ params: { user: "a" } }), topic, "alice");
  await alice.syncs.next();
  const bob = watch(await world.open({ params: { user: "b" } }), topic, "bob");
  await alice.told.find(said("join", "bob"));
  await world.get("/disconnect/user:b");
  await bob.joins.take(2);
  await bob.syncs.take(2);
  const told = await alice.told.take(2);
  return { told, lists: [alice.list(), bob.list()] };
}
