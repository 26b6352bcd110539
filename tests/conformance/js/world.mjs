// What a scenario works with: sockets whose timers are short, the server's HTTP side, and a record of what went over the wire.

import { Socket } from "phoenix";

import { Feed } from "./feed.mjs";
import { V1 } from "./v1.mjs";
import { recordFetch, recordedWebSocket } from "./wire.mjs";

const STEP_MS = 20;

export class World {
  // url: of the socket; http: of the HTTP side; vsn: what the sockets speak; the other options are the scenario's own.
  constructor({ url, http, vsn = "2.0.0", patienceMs = 8000, ...options }) {
    Object.assign(this, { url, http, vsn, patienceMs, options, frames: [], requests: [], sockets: [] });
    this.WebSocket = recordedWebSocket(this.frames);
    this.fetch = recordFetch(this.requests);
  }

  // A socket that is not connected yet; its retries come every 20 ms.
  socket({ url = this.url, ...options } = {}) {
    const socket = new Socket(url, {
      transport: this.WebSocket,
      vsn: this.vsn,
      ...(this.vsn === "1.0.0" ? V1 : {}),
      timeout: 2000,
      reconnectAfterMs: () => STEP_MS,
      rejoinAfterMs: () => STEP_MS,
      ...options,
    });
    this.sockets.push(socket);
    return socket;
  }

  // A socket that is connected.
  async open(options) {
    const socket = this.socket(options);
    const opened = new Promise((resolve) => socket.onOpen(resolve));
    socket.connect();
    await opened;
    return socket;
  }

  // Call the reference application's HTTP side.
  async get(path) {
    return (await this.fetch(this.http + path)).text();
  }

  // Call the mock server's control API: POST with a body, GET without.
  async control(path, body) {
    const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const response = await this.fetch(`${this.http}/control/${path}`, request);
    if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
    return response.json();
  }

  async close() {
    await Promise.all(this.sockets.map((socket) => new Promise((resolve) => socket.disconnect(resolve))));
  }
}

// Resolve to [status, response] of the first answer to a push or a join, a time-out included.
export function answer(push, ...more) {
  return new Promise((resolve) => {
    for (const status of ["ok", "error", "timeout", ...more]) push.receive(status, (response) => resolve([status, response]));
  });
}

// Join a channel, and give feeds of what happens to it: each join's response, each error, each close.
export function follow(channel, timeout) {
  const feeds = { channel, joins: new Feed(), refusals: new Feed(), timeouts: new Feed(), errors: new Feed(), closes: new Feed() };
  channel.onError(feeds.errors.put);
  channel.onClose(feeds.closes.put);
  channel.join(timeout).receive("ok", feeds.joins.put).receive("error", feeds.refusals.put).receive("timeout", feeds.timeouts.put);
  return feeds;
}

// The same, once it is joined.
export async function joined(socket, topic, params = {}) {
  const feeds = follow(socket.channel(topic, params));
  await feeds.joins.next();
  return feeds;
}

// A feed of an event's payloads.
export function events(channel, ...names) {
  const feed = new Feed();
  for (const name of names) channel.on(name, feed.put);
  return feed;
}

// A feed of the codes with which a socket's connections end.
export function closes(socket) {
  const feed = new Feed();
  socket.onClose((event) => feed.put(event.code));
  return feed;
}

// Wait long enough for anything that is going to be tried again.
export const quiet = () => new Promise((resolve) => setTimeout(resolve, 6 * STEP_MS));
