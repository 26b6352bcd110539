// phoenix.js, Phoenix's own client, on node's ws.

import { Socket } from "phoenix";
import WebSocket from "ws";

import { TOPICS, measure, mode, note, url } from "./meter.mjs";

const socket = new Socket(url, { transport: WebSocket });
let joined = 0;

socket.connect();
for (const topic of TOPICS) {
  const channel = socket.channel(topic, {});
  channel.on(mode, (payload) => note(topic, payload.i));
  channel.join().receive("ok", () => {
    if (++joined === TOPICS.length) measure();
  });
}
