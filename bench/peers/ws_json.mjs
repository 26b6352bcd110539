// node's ws with JSON.parse, and a function call per event.

import WebSocket from "ws";

import { TOPICS, measure, mode, note, url } from "./meter.mjs";

const socket = new WebSocket(`${url}/websocket?vsn=2.0.0`, { perMessageDeflate: false });
let joined = 0;

function handle(topic, payload) {
  note(topic, payload.i);
}

socket.on("open", () => {
  TOPICS.forEach((topic, n) => socket.send(JSON.stringify([String(n), String(n), topic, "phx_join", {}])));
});
socket.on("message", (data) => {
  const [, , topic, event, payload] = JSON.parse(data);
  if (event === mode) handle(topic, payload);
  else if (event === "phx_reply" && ++joined === TOPICS.length) measure();
});
