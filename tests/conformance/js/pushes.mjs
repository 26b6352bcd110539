// Pushes and their replies, buffered ones and many at once.

import { Feed } from "./feed.mjs";
import { answer, joined } from "./world.mjs";

export async function replies(world) {
  const socket = await world.open();
  const { channel } = await joined(socket, "room:lobby");
  const payload = { body: "hé ☃ 𝄞", nested: [1, 2.5, null, { deep: true }] };
  const outcomes = {};
  for (const event of ["echo", "fail", "ok_only", "error_only", "custom_status", "push_then_reply"]) {
    outcomes[event] = await answer(channel.push(event, payload), "retry_later");
  }
  outcomes.late_reply = await answer(channel.push("late_reply", { ms: 50 }));
  outcomes.noreply = await answer(channel.push("noreply", payload, 100));
  return outcomes;
}

export async function a_late_reply_is_ignored(world) {
  const socket = await world.open();
  const { channel } = await joined(socket, "room:lobby");
  const message = new Promise((resolve) => socket.onMessage(({ event, payload }) => event === "phx_reply" && resolve(payload)));
  const seen = new Feed();
  const push = channel.push("late_reply", { ms: 300 }, 40);
  for (const status of ["ok", "timeout"]) push.receive(status, () => seen.put(status));
  await seen.next();
  const late = await message;
  const echo = await answer(channel.push("echo", { n: 1 }));
  return { seen: seen.all, late, echo };
}

export async function pushes_before_the_connection(world) {
  const socket = world.socket();
  const channel = socket.channel("room:early", {});
  channel.join();
  const answers = [1, 2, 3].map((n) => answer(channel.push("echo", { n })));
  socket.connect();
  return await Promise.all(answers);
}

export async function many_pushes_keep_their_order(world) {
  const socket = await world.open();
  const { channel } = await joined(socket, "room:many");
  const order = new Feed();
  for (let n = 0; n < 200; n++) channel.push("echo", { n }).receive("ok", order.put);
  return (await order.take(200)).map(({ n }) => n);
}

export async function server_pushes_come_before_the_reply(world) {
  const socket = await world.open();
  const { channel } = await joined(socket, "room:ticks");
  const order = new Feed();
  channel.on("tick", ({ i, pad }) => order.put([i, (pad ?? "").length]));
  channel.push("push_n", { n: 300, size: 40 }).receive("ok", (response) => order.put(response));
  return await order.take(301);
}

export async function push_arrives_before_its_reply(world) {
  const socket = await world.open();
  const { channel } = await joined(socket, "room:lobby");
  const order = new Feed();
  channel.on("pushed", (payload) => order.put(["pushed", payload]));
  channel.push("push_then_reply", { z: 1 }).receive("ok", (response) => order.put(["ok", response]));
  return await order.take(2);
}
