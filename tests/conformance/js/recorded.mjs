// The conversations that were recorded from a real Phoenix (tests/golden/js-*), played again with shorter waits.

import { LongPoll } from "phoenix";

import { Feed } from "./feed.mjs";
import { watch } from "./rooms.mjs";
import { answer, closes, joined, quiet } from "./world.mjs";

export async function join_push_leave(world) {
  const socket = await world.open({ params: { user: "js" } });
  const { channel, joins } = await joined(socket, "room:js", { a: 1 });
  const echo = await answer(channel.push("echo", { x: 1 }));
  const fail = await answer(channel.push("fail", {}));
  const [, binary] = await answer(channel.push("binary_echo", Uint8Array.from([0, 1, 255]).buffer));
  const leave = await answer(channel.leave());
  await quiet();
  return { joined: joins.all, echo, fail, binary: [...new Uint8Array(binary)], leave };
}

export async function pushes_before_join_reply(world) {
  const socket = await world.open({ params: { user: "js" } });
  const channel = socket.channel("room:js", {});
  channel.join();
  return await Promise.all([1, 2].map((early) => answer(channel.push("echo", { early }))));
}

export async function duplicate_topic_two_channels(world) {
  const socket = await world.open({ params: { user: "js" } });
  const a = await joined(socket, "room:js");
  const b = await joined(socket, "room:js");
  return { echo: await answer(b.channel.push("echo", { b: 1 })), closes: a.closes.all.length };
}

export async function crash_auto_rejoin(world) {
  const socket = await world.open({ params: { user: "js" } });
  const { channel, joins, errors } = await joined(socket, "room:js");
  const push = await answer(channel.push("crash", {}, 50));
  if (joins.taken === joins.all.length) await joins.next();
  return { push, again: await answer(channel.push("echo", { again: 1 })), errors: errors.all };
}

export async function stop_phx_close(world) {
  const socket = await world.open({ params: { user: "js" } });
  const { channel, closes } = await joined(socket, "room:js");
  channel.push("stop", {});
  await closes.next();
  await quiet();
  return { closes: closes.all, state: channel.state };
}

export async function presence(world) {
  const socket = await world.open({ params: { user: "js" } });
  const { channel, syncs } = watch(socket, "presence:js", "u");
  await syncs.next();
  await answer(channel.push("update", { st: 1 }));
  await syncs.next();
  channel.leave();
  await new Promise((resolve) => socket.disconnect(resolve));
  return syncs.all;
}

export async function server_disconnect(world) {
  const socket = await world.open({ params: { user: "jsd" } });
  const codes = closes(socket);
  const { channel, joins, errors } = await joined(socket, "room:js");
  await world.get("/disconnect/user:jsd");
  await joins.next();
  return { errors: errors.all, codes: codes.all, connected: socket.isConnected(), state: channel.state };
}

export async function kill_transport_reconnect_rejoin(world) {
  const socket = await world.open({ params: { user: "js" } });
  const codes = closes(socket);
  const { channel, joins } = await joined(socket, "room:js");
  channel.push("kill_transport", {});
  await joins.next();
  return { codes: codes.all, after: await answer(channel.push("echo", { after: 1 })) };
}

export async function heartbeats(world) {
  const socket = await world.open({ params: { user: "js" }, heartbeatIntervalMs: 100 });
  const beats = new Feed();
  socket.onMessage(beats.put);
  return await beats.take(3);
}

export async function auth_token(world) {
  const socket = world.socket({ params: { user: "js" }, authToken: "seecret/tok+en" });
  const channel = socket.channel("room:auth", {});
  const errors = new Feed();
  socket.onError((error) => errors.put(error.message));
  const join = answer(channel.join());
  socket.connect();
  return await Promise.race([join, errors.take(3)]);
}

export async function connect_refused_retries(world) {
  const socket = world.socket({ params: { token: "bad" } });
  const errors = new Feed();
  socket.onError((error) => errors.put(error.message));
  socket.connect();
  return await errors.take(3);
}

export async function longpoll(world) {
  const socket = world.socket({ params: { user: "jslp" }, transport: LongPoll });
  socket.connect();
  const { channel } = await joined(socket, "room:js", { a: 1 });
  const news = new Feed();
  channel.on("news", news.put);
  const echoes = [await answer(channel.push("echo", { x: 1 }))];
  echoes.push(...(await Promise.all([2, 3].map((x) => answer(channel.push("echo", { x }))))));
  await world.get("/broadcast/room:js/news?n=1");
  await news.next();
  while (!world.requests.some(({ answer }) => answer?.includes('"status":204'))) await quiet();
  const leave = await answer(channel.leave());
  await quiet();
  return { echoes, news: news.all, leave };
}

export async function longpoll_auth_token(world) {
  const socket = world.socket({ transport: LongPoll, authToken: "lp-tok" });
  socket.connect();
  const { joins } = await joined(socket, "room:auth");
  return joins.all;
}
