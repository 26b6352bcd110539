// How channels end: crashes, after which the client joins again, and stops, after which it does not.

import { answer, follow, joined, quiet } from "./world.mjs";

const DEADLY = ["crash", "exit", "kill", "stop_abnormal", "no_such_event"];
const STOPPING = ["stop", "stop_shutdown", "stop_reply"];

export async function crashes(world) {
  const socket = await world.open();
  const { channel, joins, errors } = await joined(socket, "room:crash");
  const outcomes = {};
  for (const event of DEADLY) {
    const push = answer(channel.push(event, {}, 100));
    const error = await errors.next();
    const buffered = answer(channel.push("echo", { after: event }));
    await joins.next();
    outcomes[event] = { error, push: await push, buffered: await buffered };
  }
  return { outcomes, joins: joins.all.length, errors: errors.all.length, connections: socket.establishedConnections };
}

export async function killed_from_outside(world) {
  const socket = await world.open();
  const { channel, joins, errors } = await joined(socket, "room:killed");
  const answered = (await world.get("/kill_channels/room:killed")).trim();
  const error = await errors.next();
  await joins.next();
  return { answered, error, echo: await answer(channel.push("echo", { n: 1 })) };
}

export async function stops(world) {
  const socket = await world.open();
  const all = {};
  for (const event of STOPPING) {
    all[event] = await joined(socket, `room:${event}`);
    all[event].push = answer(all[event].channel.push(event, { bye: 1 }, 100));
    await all[event].closes.next();
  }
  all.stop_soon = follow(socket.channel("room:stop_soon"));
  await all.stop_soon.closes.next();
  await quiet();
  const [client] = await world.control("clients");
  const outcomes = {};
  for (const [event, { channel, joins, errors, closes, push }] of Object.entries(all)) {
    outcomes[event] = {
      state: channel.state,
      joins: joins.all.length,
      errors: errors.all.length,
      closes: closes.all,
      push: (await push) ?? null,
    };
  }
  return { outcomes, left: client.channels, channels: socket.channels.length };
}
