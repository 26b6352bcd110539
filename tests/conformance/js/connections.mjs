// Connections: cut, closed with any code, refused, silent; tokens; serializer versions.

import { Feed } from "./feed.mjs";
import { answer, closes, joined } from "./world.mjs";

const USER = "conformance";

// Connect, join, end the connection by `cut`, and say how the client came back.
async function survive(world, cut, topic = "room:cut") {
  const socket = await world.open({ params: { user: USER } });
  const codes = closes(socket);
  const { channel, joins, errors } = await joined(socket, topic);
  await cut(channel);
  const code = await codes.next();
  const offline = answer(channel.push("echo", { offline: true }));
  await joins.next();
  return { code, error: errors.all, offline: await offline, connections: socket.establishedConnections };
}

export const transport_killed = (world) => survive(world, async (channel) => channel.push("kill_transport", {}));
export const kicked = (world) => survive(world, () => world.control("kick", { all: true, code: world.options.code }));
export const disconnected = (world) => survive(world, () => world.get(`/disconnect/user:${USER}`));
export const drained = (world) => survive(world, () => world.get("/drain/room:cut"));

export async function another_users_disconnect_is_not_ours(world) {
  const socket = await world.open({ params: { user: USER } });
  const codes = closes(socket);
  const { channel } = await joined(socket, "room:calm");
  await world.get("/disconnect/user:somebody-else");
  return { echo: await answer(channel.push("echo", { n: 1 })), closes: codes.all };
}

export async function all_channels_come_back(world) {
  const socket = await world.open();
  const all = await Promise.all(["room:a", "room:b", "presence:c"].map((topic) => joined(socket, topic, { user: "u", topic })));
  await world.control("kick", { all: true, code: 0 });
  await Promise.all(all.map(({ joins }) => joins.next()));
  return all.map(({ channel, joins, errors }) => [channel.state, joins.all.length, errors.all]);
}

export async function refused_until_let_in(world) {
  await world.control("settings", { refuse_connections: 503 });
  const socket = world.socket();
  const errors = new Feed();
  socket.onError((error) => errors.put(error.message));
  socket.connect();
  const refused = await errors.take(3);
  const opened = new Promise((resolve) => socket.onOpen(resolve));
  await world.control("settings", { refuse_connections: null });
  await opened;
  const { joins } = await joined(socket, "room:late");
  return { refused, joins: joins.all.length, connections: socket.establishedConnections };
}

export async function wrong_tokens_are_retried(world) {
  const tokens = ["bad", "reason", "raise", "good"];
  const socket = world.socket({ params: () => ({ token: tokens.shift() }) });
  const errors = new Feed();
  socket.onError((error) => errors.put(error.message));
  const opened = new Promise((resolve) => socket.onOpen(resolve));
  socket.connect();
  await opened;
  const { joins } = await joined(socket, "room:auth");
  return { errors: errors.all, response: joins.all[0] };
}

export async function nobody_listens(world) {
  const socket = world.socket();
  const errors = new Feed();
  socket.onError((error) => errors.put(error.error.code));
  socket.connect();
  return { errors: await errors.take(3), state: socket.connectionState() };
}

export async function tokens_are_made_anew(world) {
  let count = 0;
  const socket = await world.open({ authToken: () => `secret/tok+en ${++count}` });
  const { joins } = await joined(socket, "room:auth");
  await world.control("kick", { all: true, code: 0 });
  await joins.next();
  return joins.all.map(({ auth_token }) => auth_token);
}

export async function heartbeats_are_answered(world) {
  const socket = await world.open({ heartbeatIntervalMs: 100 });
  const beats = new Feed();
  socket.onMessage(({ topic, payload, join_ref }) => topic === "phoenix" && beats.put([join_ref, payload]));
  const answers = await beats.take(4);
  const rtt = await new Promise((resolve) => socket.ping(resolve));
  return { answers, rtt, connections: socket.establishedConnections };
}

export async function a_silent_server_is_left(world) {
  const socket = await world.open({ heartbeatIntervalMs: 80 });
  const { channel, joins, errors } = await joined(socket, "room:silent");
  await world.control("settings", { ignore_heartbeats: true });
  const error = await errors.next();
  await world.control("settings", { ignore_heartbeats: false });
  await joins.next();
  return { error, echo: await answer(channel.push("echo", { n: 1 })), back: socket.establishedConnections > 1 };
}

export async function unknown_vsn_is_refused(world) {
  const outcomes = {};
  for (const vsn of ["2.0.5", "2.1.0", "3.0.0", "2"]) {
    const socket = world.socket({ vsn });
    outcomes[vsn] = await new Promise((resolve) => {
      socket.onOpen(() => resolve("open"));
      socket.onError((error) => resolve(error.message));
      socket.connect();
    });
    socket.disconnect();
  }
  return outcomes;
}

export async function v2_frames_on_a_v1_socket(world) {
  const socket = await world.open({ vsn: "1.0.0", reconnectAfterMs: () => 5000 });
  const codes = closes(socket);
  socket.channel("room:a").join();
  return await codes.next();
}
