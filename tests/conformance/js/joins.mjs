// Joins: accepted, refused, late, retried; several channels, and two for one topic.

import { Feed } from "./feed.mjs";
import { answer, events, follow, joined, quiet } from "./world.mjs";

export async function join_outcomes(world) {
  const socket = await world.open();
  const outcomes = {};
  for (const topic of ["room:lobby", "exact", "room:bare", "room:forbidden", "room:crash_on_join", "nowhere"]) {
    const channel = socket.channel(topic, { since: 41 });
    outcomes[topic] = await answer(channel.join());
    channel.leave();
  }
  return outcomes;
}

export async function join_params_are_made_anew(world) {
  let count = 0;
  const socket = await world.open();
  const { channel, joins } = follow(socket.channel("room:a", () => ({ count: ++count })));
  channel.push("crash", {});
  return await joins.take(2);
}

export async function slow_join_blocks_the_socket(world) {
  const socket = await world.open();
  const order = new Feed();
  for (const topic of ["room:slow", "room:quick"]) socket.channel(topic).join().receive("ok", () => order.put(topic));
  socket.ping(() => order.put("heartbeat"));
  return await order.take(3);
}

export async function join_times_out_and_is_retried(world) {
  await world.control("settings", { reply_delay: 0.8 });
  const socket = await world.open({ rejoinAfterMs: () => 300 });
  const replies = new Feed();
  socket.onMessage((message) => message.event === "phx_reply" && replies.put(message));
  const { channel, joins, timeouts } = follow(socket.channel("room:late"), 300);
  await timeouts.next();
  await world.control("settings", { reply_delay: 0 });
  await joins.next();
  const echo = await answer(channel.push("echo", { n: 1 }));
  const outdated = (await replies.take(4)).filter(({ join_ref }) => join_ref !== channel.joinRef()).length;
  return { echo, outdated, joins: joins.all.length, timeouts: timeouts.all.length, state: channel.state };
}

export async function refused_join_is_retried(world) {
  await world.control("settings", { refuse_joins: "room:*" });
  const socket = await world.open();
  const { channel, joins, refusals } = follow(socket.channel("room:closed"));
  const early = answer(channel.push("echo", { early: true }));
  const refused = await refusals.take(2);
  await world.control("settings", { refuse_joins: false });
  return { refused, joined: await joins.next(), early: await early };
}

export async function several_channels(world) {
  const socket = await world.open();
  const topics = ["room:a", "room:b", "room:c", "exact"];
  const all = await Promise.all(topics.map((topic) => joined(socket, topic)));
  const news = all.map(({ channel }) => events(channel, "news"));
  const echoes = await Promise.all(all.map(({ channel }) => answer(channel.push("echo", { topic: channel.topic }))));
  await world.get("/broadcast/room:b/news?n=1");
  await news[1].next();
  all[2].channel.push("crash", {});
  await all[2].joins.next();
  await answer(all[2].channel.leave());
  const [client] = await world.control("clients");
  return { echoes, news: news.map((feed) => feed.all), errors: all.map(({ errors }) => errors.all.length), left: client.channels };
}

export async function duplicate_topic(world) {
  const socket = await world.open();
  const first = await joined(socket, "room:twice");
  const second = await joined(socket, "room:twice");
  const news = [first, second].map(({ channel }) => events(channel, "news"));
  await world.get("/broadcast/room:twice/news?n=1");
  await news[1].next();
  const echo = await answer(second.channel.push("echo", { n: 2 }));
  return { echo, states: [first.channel.state, second.channel.state], news: news.map((feed) => feed.all) };
}

export async function leave_and_rejoin(world) {
  const socket = await world.open();
  const before = await joined(socket, "room:again");
  const old = events(before.channel, "news");
  const left = await answer(before.channel.leave());
  await world.get("/broadcast/room:again/news?n=1");
  const after = await joined(socket, "room:again", { again: true });
  const fresh = events(after.channel, "news");
  await world.get("/broadcast/room:again/news?n=2");
  await fresh.next();
  await quiet();
  return { left, response: after.joins.all, states: [before.channel.state, after.channel.state], old: old.all, fresh: fresh.all };
}

export async function joins_at_the_limit(world) {
  const socket = await world.open();
  const topics = Array.from({ length: 101 }, (_, i) => `room:${i}`);
  return await Promise.all(topics.map((topic) => answer(socket.channel(topic).join())));
}
